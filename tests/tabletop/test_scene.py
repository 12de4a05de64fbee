"""The simulated table: same seed, same scene; one action, one honest step."""

import numpy as np
import pytest

from tabletop.contract import STATE
from tabletop.scene import MAX_SHIFT_M, Tabletop
from tabletop.things import BOWL_GAP_M, CUBE_HALF_M, GAP_M, Layout

pytestmark = pytest.mark.export
STILL = np.zeros(7)


def test_the_same_seed_is_the_same_scene_also_after_other_scenes(table: Tabletop) -> None:
    table.reset(5)
    table.apply(STILL)
    first = table.state
    table.reset(6)
    table.reset(5)
    table.apply(STILL)
    assert np.array_equal(table.state, first)


def test_cubes_lie_apart_on_the_table(table: Tabletop) -> None:
    for seed in range(10):
        table.reset(seed)
        assert sorted(table.view.things) == ["blue cube", "green cube", "red cube"]
        places = [seen.position for seen in table.view.things.values()]
        assert all(abs(place[2] - CUBE_HALF_M) < 0.002 for place in places)
        gaps = [np.linalg.norm(a[:2] - b[:2]) for index, a in enumerate(places) for b in places[:index]]
        assert min(gaps) > GAP_M - 0.002


def test_varied_scenes_have_two_to_four_things_of_different_colours_clear_of_the_bowl(table: Tabletop) -> None:
    bowls, shapes = 0, set[str]()
    for seed in range(40):
        table.reset(seed, Layout.VARIED)
        view = table.view
        colours = [name.split()[0] for name in view.things]
        shapes |= {name.split()[1] for name in view.things}
        assert 2 <= len(colours) == len(set(colours)) <= 4
        assert all(abs(seen.position[2] - seen.half_height_m) < 0.002 for seen in view.things.values())
        if view.bowl_at is not None:
            bowls += 1
            assert all(np.linalg.norm((seen.position - view.bowl_at)[:2]) > BOWL_GAP_M - 0.002 for seen in view.things.values())
    assert shapes == {"cube", "cylinder"}
    assert 20 < bowls < 40


def test_what_a_scene_does_not_have_stays_out_of_it(table: Tabletop) -> None:
    table.reset(3, Layout.VARIED)
    table.reset(3)
    for _ in range(5):
        table.apply(STILL)
    assert len(table.view.things) == 3
    for name in ("cylinder_0", "cylinder_1", "bowl"):
        assert table.data.xpos[table.model.body(name).id][2] < -0.2 or name == "bowl"
        assert table.data.xpos[table.model.body(name).id][0] < -1.0


def test_the_state_is_what_the_contract_names(table: Tabletop) -> None:
    table.reset(1)
    assert table.state.shape == (len(STATE.names),)
    assert table.state.dtype == np.float32
    assert table.state[-1] == pytest.approx(0.08, abs=1e-3)


def test_an_action_moves_the_tool_by_about_what_it_says(table: Tabletop) -> None:
    table.reset(2)
    before = table.tool
    table.apply(np.array([0.0, 0.02, 0.0, 0.0, 0.0, 0.1, 0.0]))
    assert table.tool.position - before.position == pytest.approx([0.0, 0.02, 0.0], abs=0.0015)
    assert table.tool.yaw_rad - before.yaw_rad == pytest.approx(0.1, abs=0.01)


def test_an_action_too_large_is_cut_to_the_robots_limit(table: Tabletop) -> None:
    table.reset(2)
    before = table.tool.position
    table.apply(np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    assert np.linalg.norm(table.tool.position - before) < MAX_SHIFT_M * 1.1


def test_the_fingers_close_at_one_and_open_at_zero(table: Tabletop) -> None:
    table.reset(3)
    for _ in range(5):
        table.apply(np.array([0, 0, 0, 0, 0, 0, 1.0]))
    assert table.state[-1] < 0.005
    for _ in range(5):
        table.apply(STILL)
    assert table.state[-1] > 0.07
