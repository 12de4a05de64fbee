"""C1, C2 and B3 against the rule by which Franka's own library limits joint velocities, at its 1 kHz, written down again here.

And motion within published limits of other stacks, drawn at random because no recordings ship with this repository: a guard that
clamps what robots are driven with every day would be switched off.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from safety.action_space import ActionKind
from safety.context import Context, RobotState
from safety.guard import Guard
from safety.profile import Preset, load_profile
from safety.verdict import Decision, RuleStatus
from tests.safety.factories import action_space, joint_space, rule

KHZ = 1000.0
PANDA = load_profile("franka_panda")
Array = NDArray[np.float64]


def franka_limited(wanted: Array, speed: Array, acceleration: Array, jerk: Array) -> Array:
    """(T, n) velocities from rest: the jerk is clamped, then the acceleration, which must also let the joint slow down in time.

    The formula of reference libfranka 0.15.0 (rate_limiting), with dt = 1 ms: the jerk bounds the change of the acceleration; the
    acceleration stays within (jerk ÷ acceleration) · (what is left to the speed limit).
    """
    before, rising = np.zeros(wanted.shape[1]), np.zeros(wanted.shape[1])
    limited = np.empty_like(wanted)
    for step, target in enumerate(wanted):
        asked = (target - before) * KHZ
        rising = rising + np.clip((asked - rising) * KHZ, -jerk, jerk) / KHZ
        ratio = jerk / acceleration
        highest = np.minimum(ratio * (speed - before), acceleration)
        lowest = np.maximum(ratio * (-speed - before), -acceleration)
        rising = np.clip(rising, lowest, highest)
        before = before + rising / KHZ
        limited[step] = before
    return limited


def limits() -> tuple[Array, Array, Array]:
    joints = PANDA.joints
    assert joints.acceleration_rad_per_s2 is not None
    assert joints.jerk_rad_per_s3 is not None
    speed, acceleration = joints.speed_rad_per_s.values, joints.acceleration_rad_per_s2.values
    return np.array(speed), np.array(acceleration), np.array(joints.jerk_rad_per_s3.values)


def velocities(seed: int) -> Array:
    """Targets up to twice the limit that jump now and then."""
    random, speed = np.random.default_rng(seed), limits()[0]
    jumps = random.uniform(-2, 2, (4, 7)) * speed
    return np.repeat(jumps, 50, axis=0)


@pytest.mark.parametrize("seed", range(40))
def test_what_frankas_limiter_lets_through_the_guard_lets_through(seed: int) -> None:
    guard = Guard(PANDA, Preset.MANUFACTURER, joint_space(ActionKind.JOINT_VEL, control_hz=KHZ, has_gripper=False))
    limited = franka_limited(velocities(seed), *limits())
    verdict = guard.check(limited)
    assert verdict.decision is Decision.PASS
    assert rule(verdict, "B3.joint_step_speed").status in {RuleStatus.PASSED, RuleStatus.WARNED}
    assert (rule(verdict, "C2.joint_acceleration").value or 0) <= (rule(verdict, "C2.joint_acceleration").limit or 0) * (1 + 1e-3)


@pytest.mark.parametrize("seed", range(40))
def test_both_name_the_same_steps_as_too_fast_and_bring_the_fastest_joint_to_its_limit(seed: int) -> None:
    """Ours scales all joints by one factor where theirs clips each; the joint that decides ends at the same speed."""
    speed = limits()[0]
    raw = velocities(seed)
    raw[20:] = 0.1  # a tenth of the chunk is too fast: more would be refused as not the policy's any more
    theirs = np.clip(raw, -speed, speed)
    guard = Guard(PANDA, Preset.MANUFACTURER, joint_space(ActionKind.JOINT_VEL, control_hz=KHZ, has_gripper=False))
    verdict = guard.check(raw)
    is_over = (np.abs(raw) > speed).any()
    assert verdict.decision is (Decision.CLAMP if is_over else Decision.PASS)
    if not is_over:
        return
    ours = verdict.actions.astype(np.float64)
    worst = np.abs(raw[:20] / speed).argmax(axis=1)
    rows = np.arange(20)
    too_fast = np.abs(raw[rows, worst]) > speed[worst]
    assert ours[rows, worst][too_fast] == pytest.approx(theirs[rows, worst][too_fast], rel=1e-5)
    assert (np.abs(ours) <= speed).all()


HOME = np.array([0.0, -0.785398, 0.0, -2.356194, 0.0, 1.570796, 0.785398])
AT_HOME = Context(state=RobotState(q=tuple(HOME)))


def positions(speeds: Array) -> Array:
    """(T, 7) targets from home, as Franka's joint position interface is given them: it watches their differences at 1 kHz."""
    return HOME + np.cumsum(speeds, axis=0) / KHZ


@pytest.mark.parametrize("seed", range(40))
def test_targets_that_frankas_limiter_made_move_as_fast_as_they_do_there(seed: int) -> None:
    """C1's figure is the fastest step of what the limiter let through, the one from the state to the first target included.

    Franka's library keeps a thousandth away from its limits, and so does this: float32 alone makes 1e-5 of the speed at 1 kHz.
    """
    guard = Guard(PANDA, Preset.MANUFACTURER, joint_space(ActionKind.JOINT_ABS, control_hz=KHZ, has_gripper=False))
    speed, acceleration, jerk = limits()
    limited = franka_limited(velocities(seed), 0.999 * speed, acceleration, jerk)
    verdict = guard.check(positions(limited), AT_HOME)
    measured = rule(verdict, "C1.joint_velocity")
    assert measured.status in {RuleStatus.PASSED, RuleStatus.WARNED}
    worst = np.unravel_index((np.abs(limited) / speed).argmax(), limited.shape)
    assert measured.value == pytest.approx(abs(limited[worst]), rel=1e-3)
    assert measured.limit == pytest.approx(speed[worst[1]], rel=1e-6)


@pytest.mark.parametrize("seed", range(40))
def test_a_target_too_far_is_brought_to_the_same_speed_as_by_frankas_limiter(seed: int) -> None:
    """One step of twice the speed or more for a joint drawn at random; both limiters leave exactly its limit."""
    random, speed = np.random.default_rng(seed), limits()[0]
    joint, factor = random.integers(7), random.uniform(1.1, 3.0)
    raw = np.zeros((200, 7))
    raw[7, joint] = factor * speed[joint]
    guard = Guard(PANDA, Preset.MANUFACTURER, joint_space(ActionKind.JOINT_ABS, control_hz=KHZ, has_gripper=False))
    verdict = guard.check(positions(raw), AT_HOME)
    assert verdict.decision is Decision.CLAMP
    assert rule(verdict, "C1.joint_velocity").status is RuleStatus.CLAMPED
    ours = np.diff(np.vstack([HOME, verdict.actions.astype(np.float64)]), axis=0) * KHZ
    theirs = np.clip(raw, -speed, speed)
    assert ours[7, joint] == pytest.approx(theirs[7, joint], rel=1e-3)
    assert (np.abs(ours) <= speed * (1 + 1e-3)).all()


def _smooth(random: np.random.Generator, steps: int, width: int, largest: Array | float) -> Array:
    """Sines of random frequency, phase and size, never larger than `largest`."""
    phase, pace = random.uniform(0, 2 * np.pi, width), random.uniform(0.02, 0.3, width)
    return np.asarray(random.uniform(0.2, 1.0, width) * largest * np.sin(phase + pace * np.arange(steps)[:, np.newaxis]))


def _scaled_steps(random: np.random.Generator, translation_m: float, rotation_rad: float) -> Array:
    """Twelve deltas within two caps on the norm, as DROID's and Bridge's controllers apply them."""
    steps = np.concatenate([_smooth(random, 12, 3, translation_m), _smooth(random, 12, 3, rotation_rad)], axis=1)
    for columns, cap in ((slice(0, 3), translation_m), (slice(3, 6), rotation_rad)):
        norms = np.linalg.norm(steps[:, columns], axis=1, keepdims=True)
        steps[:, columns] *= np.minimum(1.0, cap / np.maximum(norms, 1e-12))
    return np.concatenate([steps, random.choice([0.0, 1.0], (1, 1)).repeat(12, axis=0)], axis=1)


def droid(random: np.random.Generator) -> Array:
    """0.075 m and 0.15 rad per step at 15 Hz."""
    return _scaled_steps(random, 0.075, 0.15)


def bridge(random: np.random.Generator) -> Array:
    """0.05 m and 0.25 rad per step at 5 Hz."""
    return _scaled_steps(random, 0.05, 0.25)


def aloha(random: np.random.Generator) -> Array:
    """Two arms at 50 Hz about the middle of their joints, up to three quarters of their speed."""
    joints = load_profile("aloha").joints
    low, high = np.array(joints.position_min_rad.values), np.array(joints.position_max_rad.values)
    speeds = np.concatenate([_smooth(random, 25, 6, 0.75 * np.array(joints.speed_rad_per_s.values)) for _ in range(2)], axis=1)
    path = np.tile((low + high) / 2, 2) + np.cumsum(speeds, axis=0) / 50.0
    grippers = _smooth(random, 25, 2, 0.4) + 0.5
    return np.concatenate([path[:, :6], grippers[:, :1], path[:, 6:], grippers[:, 1:]], axis=1)


STACKS = {
    "droid": (droid, Guard(PANDA, Preset.MANUFACTURER, action_space(control_hz=15.0))),
    "bridge": (bridge, Guard(load_profile("widowx_250s"), Preset.MANUFACTURER, action_space(control_hz=5.0))),
    "aloha": (
        aloha,
        Guard(load_profile("aloha"), Preset.MANUFACTURER, joint_space(joints=6, arms=2, control_hz=50.0)),
    ),
}


@pytest.mark.parametrize("stack", STACKS)
def test_motion_within_what_other_stacks_publish_is_hardly_ever_touched(stack: str) -> None:
    draw, guard = STACKS[stack]
    found = [guard.check(draw(np.random.default_rng(seed))).decision for seed in range(300)]
    assert sum(decision is not Decision.PASS for decision in found) < 3, {decision: found.count(decision) for decision in found}
