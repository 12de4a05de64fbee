"""Valid defaults for the safety tests: the Panda's guard at 8 Hz, where its limits per step are exact in binary."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from safety.action_space import ActionKind, ActionSpace, GripperPolarity
from safety.guard import Guard
from safety.profile import Number, Preset, RobotProfile, load_profile
from safety.verdict import RuleResult, Verdict

HZ = 8.0
LINEAR_STEP_M = 0.25 / HZ  # 0.03125: the reduced preset's largest translation in one step
ANGULAR_STEP_RAD = 1.25 / HZ  # 0.15625
NAMES = ("x", "y", "z", "rx", "ry", "rz", "gripper")
UNITS = ("m", "m", "m", "rad", "rad", "rad", "1")


def action_space(
    kind: ActionKind = ActionKind.EE_DELTA_ROTVEC, *, control_hz: float = HZ, has_gripper: bool = True
) -> ActionSpace:
    width = 7 if has_gripper else 6
    polarity = GripperPolarity.ONE_IS_OPEN if has_gripper else None
    return ActionSpace(kind=kind, names=NAMES[:width], units=UNITS[:width], control_hz=control_hz, gripper_polarity=polarity)


def panda(*, step_max: float | None = None) -> RobotProfile:
    profile = load_profile("franka_panda")
    if step_max is None:
        return profile
    return replace(profile, gripper=replace(profile.gripper, step_max=Number(value=step_max, source="this test")))


def panda_guard(
    kind: ActionKind = ActionKind.EE_DELTA_ROTVEC,
    *,
    preset: Preset = Preset.REDUCED,
    control_hz: float = HZ,
    has_gripper: bool = True,
    step_max: float | None = None,
) -> Guard:
    return Guard(panda(step_max=step_max), preset, action_space(kind, control_hz=control_hz, has_gripper=has_gripper))


def chunk(steps: int = 8, *, x: float = 0.01, rz: float = 0.05, gripper: float = 1.0) -> NDArray[np.float32]:
    """A legal chunk: a little forward, a little turn."""
    actions = np.zeros((steps, 7), dtype=np.float32)
    actions[:, 0], actions[:, 5], actions[:, 6] = x, rz, gripper
    return actions


def rule(verdict: Verdict, rule_id: str) -> RuleResult:
    return next(result for result in verdict.rules if result.id == rule_id)
