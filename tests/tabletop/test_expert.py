"""The expert does what is named, whatever happens on the way, and never asks for more speed than the guard allows."""

import numpy as np
import pytest

from tabletop.expert import SHIFT_CAP_M, TURN_CAP_RAD, expert_action
from tabletop.scene import Tabletop
from tabletop.tasks import Judge, draw_task
from tabletop.things import Layout
from tabletop.verbs import Task, Verb

pytestmark = pytest.mark.export


def _run(table: Tabletop, seed: int, verb: Verb, noise_m: float) -> Judge:
    table.reset(seed, Layout.VARIED)
    random = np.random.default_rng(seed)
    task = draw_task(table.view, random, (verb,))
    judge = Judge(task)
    for _ in range(110):
        action = expert_action(table.view, task)
        assert np.linalg.norm(action[:3]) <= SHIFT_CAP_M + 1e-6
        assert np.linalg.norm(action[3:6]) <= TURN_CAP_RAD + 1e-6
        assert action[6] in (0.0, 1.0)
        action[:3] += random.normal(size=3) * noise_m
        table.apply(action)
        judge.watch(table.view)
        if judge.is_done:
            break
    return judge


@pytest.mark.parametrize("verb", list(Verb))
@pytest.mark.parametrize("noise_m", [0.0, 0.008])
def test_it_does_the_task_with_the_named_thing_and_no_other(table: Tabletop, verb: Verb, noise_m: float) -> None:
    judges = {seed: _run(table, seed, verb, noise_m) for seed in range(6)}
    assert [seed for seed, judge in judges.items() if not judge.is_done or judge.is_wrong] == []


def test_it_opens_again_after_closing_on_nothing(table: Tabletop) -> None:
    table.reset(4)
    for _ in range(4):
        table.apply(np.array([0, 0, 0, 0, 0, 0, 1.0]))
    assert expert_action(table.view, Task(verb=Verb.PICK_UP, thing="red cube"))[6] == 0.0


def test_what_lies_in_the_bowl_is_left_there(table: Tabletop) -> None:
    table.reset(_seed_with_bowl(table), Layout.VARIED)
    name = sorted(table.view.things)[0]
    task = Task(verb=Verb.PUT_IN_BOWL, thing=name)
    judge = Judge(task)
    for _ in range(110):
        table.apply(expert_action(table.view, task))
        judge.watch(table.view)
    assert judge.is_done
    action = expert_action(table.view, task)
    assert action[6] == 0.0
    assert table.view.tool.position[2] > 0.12


def _seed_with_bowl(table: Tabletop) -> int:
    for seed in range(20):
        table.reset(seed, Layout.VARIED)
        if table.view.bowl_at is not None:
            return seed
    raise AssertionError("no bowl in twenty scenes")
