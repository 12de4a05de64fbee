"""An attacker's limits and motions on every shipped robot, in every action kind: nothing raises, nothing returned is outside.

Seeded cases, because a robot's profile, its layers and a chunk that fits them are too much to draw one by one.
"""

import json
import random
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from safety.action_space import JOINTS, ROBOT_BASE, ActionKind, ActionSpace, GripperPolarity, RotationForm
from safety.context import NOTHING_KNOWN, Context, RobotState
from safety.guard import Guard
from safety.layering import GuardPolicy, Layer, LayerError, base_policy, layered
from safety.profile import Preset, RobotProfile, known_robots, load_profile
from safety.verdict import Decision
from safety.wire import fallback_json, outcome_json, verdict_json
from safety.workspace import Box, HalfSpace
from tests.safety.factories import ROTATIONS, rule

PROFILES = {robot: load_profile(robot) for robot in known_robots()}
CASES = 20  # of each robot and kind
STILL = {
    RotationForm.QUATERNION_XYZW: (0, 0, 0, 1),
    RotationForm.QUATERNION_WXYZ: (1, 0, 0, 0),
    RotationForm.SIX_D: (1, 0, 0, 0, 1, 0),
}


@pytest.mark.parametrize("kind", list(ActionKind))
@pytest.mark.parametrize("robot", sorted(PROFILES))
def test_no_limit_and_no_motion_of_an_attacker_breaks_a_promise(robot: str, kind: ActionKind) -> None:
    for number in range(CASES):
        drawn = Drawn(PROFILES[robot], kind, f"{robot} {kind} {number}")
        guard, raw, context = drawn.guard(), drawn.chunk(), drawn.context()
        verdict = guard.check(raw, context)
        json.dumps([verdict_json(verdict), outcome_json(verdict)], allow_nan=False)
        assert rule(verdict, "H1.post_check").status != "rejected", drawn.name
        assert (verdict.decision is Decision.REJECT) == (verdict.overall_score == 0) == (len(verdict.actions) == 0)
        if verdict.fallback is not None:
            json.dumps(fallback_json(verdict.fallback), allow_nan=False)
            continue
        assert (
            (verdict.decision is Decision.PASS) == (verdict.overall_score >= 0.5) == (verdict.actions.tobytes() == raw.tobytes())
        )
        again = guard.check(verdict.actions, context)
        assert again.decision is Decision.PASS, (drawn.name, again.limiting_rule)
        assert again.overall_score >= verdict.overall_score, drawn.name


class Drawn:
    """One case, from its name alone."""

    def __init__(self, profile: RobotProfile, kind: ActionKind, name: str) -> None:
        self.profile, self.kind, self.name = profile, kind, name
        self.random = random.Random(name)
        self.numpy = np.random.default_rng(self.random.getrandbits(64))
        self.hz = self.random.choice([0.001, 0.5, 5.0, 10.0, 20.0, 50.0, 1000.0])
        self.space = self._space()
        self.policy = self._policy()
        joints = profile.joints
        ends = np.array(joints.position_min_rad.values), np.array(joints.position_max_rad.values)
        self.q = self.numpy.uniform(*ends, (profile.arms, profile.joints_per_arm))
        self.points = self.numpy.uniform(-0.5, 0.5, (profile.arms, 3))

    def guard(self) -> Guard:
        return Guard(self.profile, Preset.REDUCED, self.space, policy=self.policy)

    def context(self) -> Context:
        if self.random.random() < 0.2:
            return NOTHING_KNOWN
        is_posed = self.kind not in JOINTS and self.random.random() < 0.7
        q = self.q.ravel() if self.random.random() < 0.7 else None
        state = RobotState(q=q, ee_position=self.points.ravel() if is_posed else None)
        return Context(state=state, obs_age_ms=self.random.choice([None, 0.0, 0.5]))

    def chunk(self) -> NDArray[np.float32]:
        """Paths at a pace from nothing to beyond what A4 refuses, now and then with one absurd number."""
        steps = self.random.choice([1, 2, 3, 12, 50])
        raw = np.zeros((steps, self.space.width))
        for index, group in enumerate(self.space.groups):
            pace = self.random.choice([0, 0.5, 1, 1.0000001, 1.2, 4.9, 5.1]) * np.where(
                self.numpy.random((steps, 1)) < 0.2, 1, 0.6
            )
            if self.kind in JOINTS:
                shares = self.numpy.uniform(-1, 1, (steps, self.profile.joints_per_arm)) * pace
                speeds = shares * self.policy.limits.joint_speed_rad_per_s
                moved = speeds if self.kind is ActionKind.JOINT_VEL else speeds / self.hz
                raw[:, group.arm] = self.q[index] + np.cumsum(moved, axis=0) if self.kind is ActionKind.JOINT_ABS else moved
            else:
                ways = self._directions(steps) * (self.policy.limits.linear_speed_m_per_s or 0.3) / self.hz * pace
                is_pose = self.kind is ActionKind.EE_ABS
                raw[:, group.translation] = self.points[index] + np.cumsum(ways, axis=0) if is_pose else ways
                turns = self._directions(steps) * (self.policy.limits.angular_speed_rad_per_s or 1.0) / self.hz * pace
                raw[:, group.rotation] = STILL.get(self.space.rotation_form, (0, 0, 0)) if self.space.rotation_form else turns
            if group.gripper is not None:
                raw[:, group.gripper] = self.numpy.choice([0, 0.3, 1, 1.001, -0.001, 1.4], steps)
        if self.random.random() < 0.1:
            raw.flat[self.random.randrange(raw.size)] = self.random.choice([1e-45, -0.0, 5e-324, 1e5, -1e6])
        return raw.astype(np.float32)

    def _directions(self, steps: int) -> NDArray[np.float64]:
        ways = self.numpy.normal(size=(steps, 3))
        return np.asarray(ways / np.linalg.norm(ways, axis=1, keepdims=True))

    def _space(self) -> ActionSpace:
        unit = "rad/s" if self.kind is ActionKind.JOINT_VEL else "rad"
        if self.kind in JOINTS:
            names = tuple(f"joint_{index + 1}" for index in range(self.profile.joints_per_arm))
            units = (unit,) * len(names)
        else:
            form = self.random.choice(list(RotationForm)) if self.kind is ActionKind.EE_ABS else RotationForm.ROTATION_VECTOR
            names = ("x", "y", "z", *ROTATIONS[form])
            is_angle = form in (RotationForm.EULER, RotationForm.ROTATION_VECTOR)
            units = ("m",) * 3 + ("rad" if is_angle else "1",) * (len(names) - 3)
        names, units = (*names, "gripper"), (*units, "1")
        if self.profile.arms == 2:
            names, units = tuple(f"{side}_{name}" for side in ("left", "right") for name in names), units * 2
        return ActionSpace(
            kind=self.kind,
            names=names,
            units=units,
            control_hz=self.hz,
            gripper_polarity=GripperPolarity.ONE_IS_OPEN,
            frame=self.random.choice([ROBOT_BASE, None]),
        )

    def _policy(self) -> GuardPolicy:
        policy = base_policy(self.profile, self.random.choice(list(Preset)))
        for wanted in self._wishes(policy):
            try:
                policy = layered(policy, Layer(name="attacker", **wanted))  # type: ignore[arg-type] # one field at a time
            except LayerError:
                continue  # nothing of it counts then
        return policy

    def _wishes(self, policy: GuardPolicy) -> Iterator[dict[str, object]]:
        limits, share = policy.limits, self.random.choice([1.0, 0.5, 0.1, 1e-2, 1e-12, 5e-324])
        middle = self.numpy.uniform(-0.5, 0.5, 3)
        low, high = np.array(limits.joint_min_rad), np.array(limits.joint_max_rad)
        room = (high - low) * self.random.choice([0.0, 0.2, 0.49, 0.4999999999, 0.5])
        wishes: list[dict[str, object]] = [
            {"linear_speed_m_per_s": (limits.linear_speed_m_per_s or 1.0) * share},
            {"angular_speed_rad_per_s": (limits.angular_speed_rad_per_s or 1.0) * share},
            {"joint_speed_rad_per_s": tuple(speed * share for speed in limits.joint_speed_rad_per_s)},
            {"joint_min_rad": tuple((low + room).tolist()), "joint_max_rad": tuple((high - room).tolist())},
            {"gripper_range": (0.4, 0.4 + share)},
            {"gripper_step_max": 0.5 * share},
            {"workspace": _box(middle, self.random.choice([1.0, 0.2, 1e-9]))},
            {"keep_outs": (_box(middle, self.random.choice([0.2, 1e-12])),)},
            {"surfaces": (HalfSpace(normal=(0.0, 0.0, -1.0), offset_m=self.random.choice([0.0, 0.2, -1e6])),)},
            {"min_prefix": self.random.choice([2, 5, 1000])},
        ]
        return (wish for wish in wishes if self.random.random() < 0.4)


def _box(middle: NDArray[np.float64], half: float) -> Box:
    x, y, z = middle.tolist()
    return Box(low_m=(x - half, y - half, z - half), high_m=(x + half, y + half, z + half))


@pytest.mark.parametrize("number", [5e-324, 1e-310, 1e-7, 0.0, -0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["linear_speed_m_per_s", "angular_speed_rad_per_s", "gripper_step_max", "staleness_max_ms"])
def test_a_limit_that_is_as_good_as_none_is_refused(field: str, number: float) -> None:
    with pytest.raises(LayerError) as caught:
        layered(base_policy(PROFILES["ur5e"], Preset.REDUCED), Layer(name="attacker", **{field: number}))  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("joint_speed_rad_per_s[0]", {"joint_speed_rad_per_s": (5e-324,) + (1.0,) * 5}),
        ("joint_max_rad[5]", {"joint_min_rad": (0.0,) * 6, "joint_max_rad": (1.0,) * 5 + (1e-9,)}),
        ("gripper_range", {"gripper_range": (0.5, 0.5 + 1e-12)}),
        ("gripper_step_max", {"gripper_step_max": 1e-4}),
    ],
)
def test_ranges_that_leave_nothing_are_refused(field: str, wanted: dict[str, object]) -> None:
    with pytest.raises(LayerError) as caught:
        layered(base_policy(PROFILES["ur5e"], Preset.REDUCED), Layer(name="attacker", **wanted))  # type: ignore[arg-type]
    assert caught.value.field == field
