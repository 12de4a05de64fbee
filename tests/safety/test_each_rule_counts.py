"""For every rule of the catalogue a fault that this rule finds: whoever deletes or empties a rule fails here, by its name."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from safety.action_space import ActionKind
from safety.context import Context, RobotState, TokenEvidence
from safety.guard import Guard
from safety.profile import Preset
from safety.rules.names import ALL_RULES, G1, H1
from safety.verdict import RuleStatus
from safety.workspace import Box, HalfSpace
from tests.safety.factories import action_space, chunk, joint_chunk, panda, panda_guard, pose_chunk, rule
from tests.safety.scenes import AT_READY, BOX, Q, at, deltas, guard, session

Fault = tuple[Guard, object, Context]


def row(*numbers: float) -> NDArray[np.float32]:
    return np.array(numbers, dtype=np.float32)


TRAINED = replace(action_space(), training_range=((-0.02, 0.02),) * 3 + ((-0.1, 0.1),) * 3 + ((0.0, 1.0),))
STUCK = row(0, 0.02, 0, 0, 0.1, 0, 0)  # two more columns at an end of their range
AWAY = RobotState(q=joint_chunk()[4, :7].astype(float) + 0.3)


def changed(raw: NDArray[np.float32], step: int, column: int, value: float) -> NDArray[np.float32]:
    raw = raw.copy()
    raw[step, column] = value
    return raw


def swung(column: int, low: float, high: float, steps: int = 40) -> NDArray[np.float32]:
    path = np.tile(np.append(Q, 0.5), (steps, 1)).astype(np.float32)
    path[:, column] = np.linspace(low, high, steps)
    return path


def wavering() -> NDArray[np.float32]:
    raw = joint_chunk(16, step_rad=0.0)
    raw[::2, 2] += np.float32(0.1)
    return raw


def flapping() -> NDArray[np.float32]:
    raw = chunk()
    raw[::2, 6] = 0.0
    return raw


def folded() -> NDArray[np.float32]:
    path = swung(1, -0.5, -1.6)
    path[:, 3], path[:, 5] = np.linspace(-2.0, -2.95, 40), np.linspace(1.6, 0.2, 40)
    return path


def seen_again() -> Context:
    context = session(guard(), joint_chunk(), state=AT_READY.state, image_hash="same")
    assert context.previous is not None
    return replace(context, previous=replace(context.previous, frozen_count=1, frozen_steps=9))


def near_its_end() -> NDArray[np.float32]:
    near = np.zeros((16, 8), dtype=np.float32)
    near[:, :7] = (0, 1.3, 0, -1.5, 0, 2.0, 0)
    near[13:, 1] = 1.4 + np.arange(3, dtype=np.float32) * 0.1
    return near


UNIT_POSES = changed(pose_chunk(), 3, 6, 0.9)
FAULTS: dict[str, Callable[[], Fault]] = {
    "A1": lambda: (panda_guard(), chunk()[:, :6], Context()),
    "A2": lambda: (panda_guard(), changed(chunk(), 2, 1, np.nan), Context()),
    "A3": lambda: (panda_guard(), changed(chunk(), 2, 1, 2e6), Context()),
    "A4": lambda: (panda_guard(), changed(chunk(), 2, 1, 0.2), Context()),
    "B1": lambda: (panda_guard(), changed(chunk(), 2, 1, 0.04), Context()),
    "B2": lambda: (panda_guard(), changed(chunk(), 2, 4, 0.3), Context()),
    "B3": lambda: (guard(ActionKind.JOINT_DELTA), changed(deltas(), 2, 1, 0.2), Context()),
    "B4": lambda: (panda_guard(), changed(chunk(), 2, 6, 1.2), Context()),
    "B5": lambda: (guard(), swung(3, -0.3, -0.15), Context()),
    "B6": lambda: (guard(ActionKind.EE_ABS), UNIT_POSES, Context()),
    "B7": lambda: (panda_guard(step_max=0.3), changed(chunk(), 4, 6, 0.5), Context()),
    "B8": lambda: (panda_guard(), chunk(x=0.04), Context()),
    "C1": lambda: (guard(), changed(joint_chunk(), 9, 3, -1.7), Context()),
    "C2": lambda: (guard(control_hz=50.0), wavering(), Context()),
    "C3": lambda: (guard(control_hz=50.0), joint_chunk(12, step_rad=1e-4), Context()),
    "C4": lambda: (guard(), wavering(), Context()),
    "C5": lambda: (panda_guard(), flapping(), Context()),
    "C6": lambda: (Guard(panda(), Preset.REDUCED, TRAINED), chunk(rz=0.1) * row(2, 0, 0, 0, 0, 1, 1) + STUCK, Context()),
    "D0": lambda: (guard(), joint_chunk(), Context(state=RobotState(q=[0.0] * 7))),
    "D1": lambda: (guard(), joint_chunk() + row(0.2, 0, 0, 0, 0, 0, 0, 0), AT_READY),
    "D2": lambda: (guard(ActionKind.EE_DELTA_ROTVEC, workspace=BOX), chunk(12), at(0.455)),
    "D3": lambda: (panda_guard(), chunk(50, x=0.03, rz=0.0), Context(state=RobotState(q=[0, 0.3, 0, -0.4, 0, 1.6, 0.7]))),
    "D4": lambda: (guard(robot="franka_fr3"), near_its_end(), Context()),
    "D5": lambda: (guard(robot="ur5e"), np.zeros((4, 7), dtype=np.float32), Context()),
    "D6": lambda: (guard(), folded(), Context()),
    "D7": lambda: (guard(surfaces=(HalfSpace(normal=(0.0, 0.0, -1.0), offset_m=0.0),)), swung(1, -0.5, 1.0), Context()),
    "D8": lambda: (guard(), joint_chunk(), session(guard(), joint_chunk(), state=AWAY)),
    "E1": lambda: (guard(), joint_chunk() + row(0, 0, 0.2, 0, 0, 0, 0, 0), session(guard(), joint_chunk())),
    "E2": lambda: (guard(), joint_chunk(), session(guard(), joint_chunk())),
    "E3": lambda: (guard(), joint_chunk(), Context(obs_age_ms=1500.0)),
    "E4": lambda: (guard(), joint_chunk(), seen_again()),
    "E5": lambda: (guard(), joint_chunk(), session(guard(), joint_chunk(), seq=1)),
    "E6": lambda: (guard(), joint_chunk(), Context(control_hz=30.0)),
    "F1": lambda: (guard(), joint_chunk(), Context(tokens=TokenEvidence(entropy_nats=[1.0], bin_count=256))),
    "F2": lambda: (Guard(panda(), Preset.REDUCED, TRAINED), chunk(x=0.031), Context()),
}
SEEN = {RuleStatus.WARNED, RuleStatus.CLAMPED, RuleStatus.TRUNCATED, RuleStatus.INFORMED, RuleStatus.REJECTED}


def test_no_rule_is_without_its_fault() -> None:
    """G1 looks at words (test_instruction.py); H1 only ever finds a fault of ours (rules/test_post_check.py)."""
    assert {*FAULTS, G1[:2], H1[:2]} == {name.partition(".")[0] for name in ALL_RULES}


@pytest.mark.parametrize("name", FAULTS)
def test_the_rule_finds_its_fault(name: str) -> None:
    guard_, raw, context = FAULTS[name]()
    full = next(rule_id for rule_id in ALL_RULES if rule_id.startswith(f"{name}."))
    assert rule(guard_.check(raw, context), full).status in SEEN


@pytest.mark.parametrize("keep_out", [Box(low_m=(0.42, -0.1, 0.4), high_m=(0.44, 0.1, 0.6))])
def test_a_keep_out_counts_as_much_as_the_box(keep_out: Box) -> None:
    verdict = guard(ActionKind.EE_DELTA_ROTVEC, keep_outs=(keep_out,)).check(chunk(12), at(0.39))
    assert rule(verdict, "D2.workspace").status is RuleStatus.TRUNCATED
