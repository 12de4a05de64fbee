"""A guard in a cell, a robot at a place, and what moves it: for the scenarios that need state, session or workspace."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safety.action_space import ActionKind
from safety.context import Context, RobotState
from safety.guard import Guard
from safety.layering import Layer, base_policy, layered
from safety.memory import remembered
from safety.profile import Preset, load_profile
from safety.workspace import Box
from tests.safety.factories import (
    READY,
    action_space,
    joint_space,
    pose_space,
)

Q = np.array(READY)
AT_READY = Context(state=RobotState(q=Q, gripper=0.5))
BOX = Box(low_m=(-0.5, -0.5, 0.0), high_m=(0.5, 0.5, 1.0))


def guard(
    kind: ActionKind = ActionKind.JOINT_ABS, robot: str = "franka_panda", *, control_hz: float = 10.0, **wanted: Any
) -> Guard:
    profile = load_profile(robot)
    policy = layered(base_policy(profile, Preset.REDUCED), Layer(name="org:test@1", **wanted))
    if kind is ActionKind.EE_ABS:
        space = pose_space()
    elif kind.value.startswith("joint"):
        space = joint_space(kind, joints=profile.joints_per_arm, control_hz=control_hz, arms=profile.arms)
    else:
        space = action_space(kind)
    return Guard(profile, Preset.REDUCED, space, policy=policy)


def at(x: float, y: float = 0.0, z: float = 0.5) -> Context:
    return Context(state=RobotState(ee_position=(x, y, z), gripper=0.5))


def deltas(steps: int = 10, *, speed: float = 0.05, kind: ActionKind = ActionKind.JOINT_DELTA) -> NDArray[np.float32]:
    actions = np.full((steps, 8), speed if kind is ActionKind.JOINT_VEL else speed / 10.0, dtype=np.float32)
    actions[:, 7] = 0.5
    return actions


def session(guard_: Guard, first: NDArray[np.float32], known: Context = AT_READY, **later: Any) -> Context:
    """The context of the second request, half a second and five steps after the first."""
    start = replace(known, seq=1, now_s=100.0, image_hash="same")
    kept = remembered(start, guard_.check(first, start))
    wanted: dict[str, Any] = {"seq": 2, "now_s": 100.5, "executed_index": 4, **later}
    return Context(previous=kept, **wanted)
