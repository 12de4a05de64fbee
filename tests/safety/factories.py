"""Valid defaults for the safety tests: the Panda's guard at 8 Hz, where its limits per step are exact in binary."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from safety.action_space import ROBOT_BASE, ActionKind, ActionSpace, GripperPolarity, RotationForm
from safety.guard import Guard
from safety.profile import Number, Preset, RobotProfile, load_profile
from safety.verdict import RuleResult, Verdict

HZ = 8.0
LINEAR_STEP_M = 0.25 / HZ  # 0.03125: the reduced preset's largest translation in one step
ANGULAR_STEP_RAD = 1.25 / HZ  # 0.15625
NAMES = ("x", "y", "z", "rx", "ry", "rz", "gripper")
UNITS = ("m", "m", "m", "rad", "rad", "rad", "1")


def action_space(
    kind: ActionKind = ActionKind.EE_DELTA_ROTVEC,
    *,
    control_hz: float = HZ,
    has_gripper: bool = True,
    frame: str | None = ROBOT_BASE,
) -> ActionSpace:
    width = 7 if has_gripper else 6
    polarity = GripperPolarity.ONE_IS_OPEN if has_gripper else None
    return ActionSpace(
        kind=kind,
        names=NAMES[:width],
        units=UNITS[:width],
        control_hz=control_hz,
        gripper_polarity=polarity,
        frame=frame,
    )


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


def joint_space(
    kind: ActionKind = ActionKind.JOINT_ABS,
    *,
    joints: int = 7,
    control_hz: float = 10.0,
    has_gripper: bool = True,
    arms: int = 1,
    training_range: tuple[tuple[float, float], ...] | None = None,
) -> ActionSpace:
    """Joints of one arm, or of two."""
    unit = "rad/s" if kind is ActionKind.JOINT_VEL else "rad"
    names = [f"joint_{index + 1}" for index in range(joints)] + (["gripper"] if has_gripper else [])
    units = [unit] * joints + (["1"] if has_gripper else [])
    if arms == 2:
        names = [f"{side}_{name}" for side in ("left", "right") for name in names]
    return ActionSpace(
        kind=kind,
        names=tuple(names),
        units=tuple(units * arms),
        control_hz=control_hz,
        gripper_polarity=GripperPolarity.ONE_IS_OPEN if has_gripper else None,
        training_range=training_range,
    )


ROTATIONS = {
    RotationForm.ROTATION_VECTOR: ("rx", "ry", "rz"),
    RotationForm.EULER: ("roll", "pitch", "yaw"),
    RotationForm.QUATERNION_XYZW: ("qx", "qy", "qz", "qw"),
    RotationForm.QUATERNION_WXYZ: ("qw", "qx", "qy", "qz"),
    RotationForm.SIX_D: ("r1", "r2", "r3", "r4", "r5", "r6"),
}


def pose_space(form: RotationForm = RotationForm.QUATERNION_XYZW, *, control_hz: float = HZ) -> ActionSpace:
    """Absolute poses with a gripper."""
    unit = "rad" if form in (RotationForm.ROTATION_VECTOR, RotationForm.EULER) else "1"
    names = ("x", "y", "z", *ROTATIONS[form], "gripper")
    return ActionSpace(
        kind=ActionKind.EE_ABS,
        names=names,
        units=("m",) * 3 + (unit,) * len(ROTATIONS[form]) + ("1",),
        control_hz=control_hz,
        gripper_polarity=GripperPolarity.ONE_IS_OPEN,
        frame=ROBOT_BASE,
    )


READY = (0.0, -0.5, 0.0, -2.0, 0.0, 1.6, 0.7)  # a Panda's joints far from every end and singularity


def joint_chunk(steps: int = 20, *, step_rad: float = 0.005) -> NDArray[np.float32]:
    """A legal chunk of absolute joints: from READY, all joints a little."""
    motion = np.arange(1, steps + 1)[:, np.newaxis] * step_rad
    return np.concatenate([READY + motion, np.full((steps, 1), 0.5)], axis=1).astype(np.float32)


def pose_chunk(steps: int = 10, *, step_m: float = 0.01) -> NDArray[np.float32]:
    """A legal chunk of absolute poses with a quaternion (x, y, z, w): forward, without turning."""
    poses = np.tile(np.array([0.2, 0.0, 0.5, 0.0, 0.0, 0.0, 1.0, 0.5], dtype=np.float32), (steps, 1))
    poses[:, 0] += np.arange(steps, dtype=np.float32) * np.float32(step_m)
    return poses
