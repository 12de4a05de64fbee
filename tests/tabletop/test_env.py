"""The environment keeps Gymnasium's promises, and a seed decides everything that is seen, asked and done."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from tabletop.env import Settings, TabletopEnv
from tabletop.expert import expert_action
from tabletop.things import Layout
from tabletop.verbs import Task, Verb
from tabletop.wording import Wording

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("camera")]
SMALL = Settings(picture_px=64)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # the checker's advice about symmetric actions and unregistered names
def test_gymnasiums_own_checker_finds_nothing() -> None:
    with closing(TabletopEnv(SMALL)) as env:
        check_env(env, skip_render_check=True)


def test_the_same_seed_is_the_same_episode_from_both_cameras() -> None:
    seen = []
    with closing(TabletopEnv(SMALL)) as env:
        for seed in (5, 6, 5):
            observation, info = env.reset(seed=seed)
            after, *_ = env.step(np.array([0.01, 0.0, -0.01, 0.0, 0.0, 0.05, 1.0], dtype=np.float32))
            seen.append((info["task"], info["instruction"], observation, after))
    assert seen[0][:2] == seen[2][:2]
    for first, again in zip(seen[0][2:], seen[2][2:], strict=True):
        assert set(first) == {"front", "wrist", "state"}
        assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(seen[0][2]["front"], seen[1][2]["front"])
    assert not np.array_equal(seen[0][2]["front"], seen[0][2]["wrist"])


def test_the_expert_is_rewarded_once_and_the_episode_ends() -> None:
    with closing(TabletopEnv(Settings(layout=Layout.CUBES, picture_px=64, cameras=("front",)))) as env:
        _, info = env.reset(seed=1)
        rewards, is_over = list[float](), False
        while not is_over and len(rewards) < 60:
            _, reward, is_over, _, info = env.step(expert_action(env.table.view, info["task"]))
            rewards.append(float(reward))
    assert (sum(rewards), rewards[-1], is_over) == (1.0, 1.0, True)
    assert info["is_success"]
    assert info["steps"] == len(rewards)


def test_a_task_and_words_of_ones_own_take_the_place_of_drawn_ones() -> None:
    with closing(TabletopEnv(Settings(picture_px=64, cameras=("front",), wording=Wording.HELD_OUT))) as env:
        _, info = env.reset(seed=2, options={"task": Task(verb=Verb.PICK_UP, thing="red cube"), "instruction": "get it"})
        assert (info["task"].thing, info["instruction"]) == ("red cube", "get it")


def test_who_asks_only_for_the_bowl_gets_scenes_with_one_and_otherwise_the_same() -> None:
    settings = Settings(picture_px=64, cameras=("front",))
    with closing(TabletopEnv(settings)) as every, closing(TabletopEnv(replace(settings, verbs=(Verb.PUT_IN_BOWL,)))) as only:
        for seed in range(12):
            every.reset(seed=seed)
            _, info = only.reset(seed=seed)
            view = only.table.view
            assert (info["task"].verb, view.bowl_at is None) == (Verb.PUT_IN_BOWL, False)
            if every.table.view.bowl_at is not None:
                assert {name: seen.position.tolist() for name, seen in view.things.items()} == {
                    name: seen.position.tolist() for name, seen in every.table.view.things.items()
                }


def test_holding_moves_nothing() -> None:
    with closing(TabletopEnv(Settings(picture_px=64, cameras=("front",)))) as env:
        env.reset(seed=3)
        before = env.table.tool.position
        for _ in range(3):
            _, info = env.hold()
        assert np.linalg.norm(env.table.tool.position - before) < 2e-3
        assert info["steps"] == 3
