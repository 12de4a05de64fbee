"""Success is judged from the truth: done to the named thing, done to another, or not yet."""

import numpy as np
import pytest

from tabletop.arm import TOOL_DOWN, Pose
from tabletop.scene import Seen, View
from tabletop.tasks import STAY_STEPS, Judge, draw_task
from tabletop.verbs import Task, Verb

pytestmark = pytest.mark.export
FAR_M, BOWL_M = (0.5, 0.1, 0.2), (0.5, -0.15, 0.006)


def _view(
    *, red: tuple[float, float, float] = (0.45, 0.1, 0.02), tool: tuple[float, float, float] = FAR_M, width_m: float = 0.08
) -> View:
    things = {"red cube": red, "blue cube": (0.55, 0.1, 0.02)}
    return View(
        tool=Pose(position=np.array(tool), rotation=TOOL_DOWN),
        finger_width_m=width_m,
        things={
            name: Seen(position=np.array(at), yaw_rad=0.0, half_height_m=0.02, is_round=False) for name, at in things.items()
        },
        bowl_at=np.array(BOWL_M),
    )


def _judged(verb: Verb, thing: str, *views: View) -> tuple[bool, bool]:
    judge = Judge(Task(verb=verb, thing=thing))
    for view in views:
        judge.watch(view)
    return judge.is_done, judge.is_wrong


def test_a_thing_in_the_air_is_picked_up_and_another_one_is_wrong() -> None:
    lifted = _view(red=(0.45, 0.1, 0.09))
    assert _judged(Verb.PICK_UP, "red cube", lifted) == (True, False)
    assert _judged(Verb.PICK_UP, "blue cube", lifted) == (False, True)
    assert _judged(Verb.PICK_UP, "red cube", _view(red=(0.45, 0.1, 0.07))) == (False, False)


def test_moving_to_a_thing_means_staying_over_it() -> None:
    over, passing = _view(tool=(0.45, 0.1, 0.11)), _view()
    assert _judged(Verb.MOVE_TO, "red cube", *[over] * STAY_STEPS) == (True, False)
    assert _judged(Verb.MOVE_TO, "red cube", *[over] * (STAY_STEPS - 1), passing, over) == (False, False)
    assert _judged(Verb.MOVE_TO, "blue cube", *[over] * STAY_STEPS) == (False, True)
    assert _judged(Verb.MOVE_TO, "bowl", *[_view(tool=(0.5, -0.15, 0.1))] * STAY_STEPS) == (True, False)


def test_what_lies_in_the_bowl_counts_once_the_fingers_let_go() -> None:
    inside = (0.5, -0.15, 0.03)
    assert _judged(Verb.PUT_IN_BOWL, "red cube", _view(red=inside)) == (True, False)
    assert _judged(Verb.PUT_IN_BOWL, "red cube", _view(red=inside, tool=inside, width_m=0.04)) == (False, False)
    assert _judged(Verb.PUT_IN_BOWL, "red cube", _view(red=(0.5, -0.15, 0.12))) == (False, False)
    assert _judged(Verb.PUT_IN_BOWL, "blue cube", _view(red=inside)) == (False, True)


def test_a_scene_without_a_bowl_is_never_asked_for_one() -> None:
    view = _view()
    bare = View(tool=view.tool, finger_width_m=0.08, things=view.things, bowl_at=None)
    drawn = [draw_task(bare, np.random.default_rng(seed)) for seed in range(50)]
    assert all(task.verb is not Verb.PUT_IN_BOWL and task.thing != "bowl" for task in drawn)
    assert {task.verb for task in drawn} == {Verb.PICK_UP, Verb.MOVE_TO}
