"""Which rules look at end-effector deltas, in which order, and which of the catalogue cannot look yet and why.

To add a rule: write it beside these, put it into `motion_rules` (a limit on the numbers), take its line out of `LATER`. Info
rules (C3, F1) carry no score and G1 reads the instruction, not the action, so they are not counted here.
"""

from dataclasses import dataclass

import numpy as np

from safety.action_space import GRIPPER, ActionSpace
from safety.profile import Limits
from safety.rules.cartesian import B1, B2, angular_speed, linear_speed
from safety.rules.gripper import GripperRange, GripperStep
from safety.rules.integrity import Finite, Magnitude
from safety.rules.rule import Rule, not_evaluated, unpublished
from safety.verdict import NotEvaluated, RuleResult

WATCHED_BY_A4 = frozenset({B1, B2, GripperStep.id})

# Rules of the catalogue that apply to end-effector deltas and are not in this guard version; the guard is given no robot state,
# no previous chunk, no time and no geometry.
LATER = (
    ("C4.oscillation", NotEvaluated.NOT_IMPLEMENTED),
    ("C5.gripper_chatter", NotEvaluated.NOT_IMPLEMENTED),
    ("C6.saturation", NotEvaluated.NOT_IMPLEMENTED),
    ("D0.state_valid", NotEvaluated.NO_STATE),
    ("D2.workspace", NotEvaluated.NO_STATE),
    ("D3.joint_limit_predicted", NotEvaluated.NO_STATE),
    ("D5.singularity", NotEvaluated.NO_STATE),
    ("D6.self_collision", NotEvaluated.NO_GEOMETRY),
    ("D7.surface_clearance", NotEvaluated.NO_GEOMETRY),
    ("D8.tracking_error", NotEvaluated.NO_STATE),
    ("E1.seam", NotEvaluated.NO_SESSION),
    ("E2.chunk_consistency", NotEvaluated.NO_SESSION),
    ("E3.staleness", NotEvaluated.NO_TIMESTAMP),
    ("E4.observation_frozen", NotEvaluated.NO_SESSION),
    ("E5.sequence", NotEvaluated.NO_SESSION),
    ("E6.rate_mismatch", NotEvaluated.NO_SESSION),
    ("F2.action_ood", NotEvaluated.NOT_IMPLEMENTED),
)
NEEDS_GRIPPER = frozenset({"C5.gripper_chatter"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """The rules of one guard. `integrity` stops at the first refusal; of `motion` all are evaluated, then clamped in order."""

    integrity: tuple[Rule, ...]
    motion: tuple[Rule, ...]
    later: tuple[RuleResult, ...]


def rule_set(space: ActionSpace, limits: Limits) -> RuleSet:
    """The rules for this action space under these limits."""
    later = (entry for entry in LATER if space.has_gripper or entry[0] not in NEEDS_GRIPPER)
    return RuleSet(
        integrity=(Finite(), Magnitude()),
        motion=motion_rules(space, limits),
        later=tuple(not_evaluated(rule_id, reason) for rule_id, reason in later),
    )


def motion_rules(space: ActionSpace, limits: Limits) -> tuple[Rule, ...]:
    """The limits on the numbers, in the order in which they clamp: the gripper's range before its steps."""
    linear, angular = limits.linear_speed_m_per_s, limits.angular_speed_rad_per_s
    arm: tuple[Rule, ...] = (
        unpublished(B1) if linear is None else linear_speed(space, linear),
        unpublished(B2) if angular is None else angular_speed(space, angular),
    )
    return (*arm, *_gripper_rules(space, limits)) if space.has_gripper else arm


def _gripper_rules(space: ActionSpace, limits: Limits) -> tuple[Rule, ...]:
    low, high = limits.gripper_range
    unit, step_max = space.units[GRIPPER], limits.gripper_step_max
    in_range = GripperRange(column=GRIPPER, low=_inward(low, high), high=_inward(high, low), unit=unit)
    if step_max is None:
        return in_range, unpublished(GripperStep.id)
    range_end = max(abs(low), abs(high))
    return in_range, GripperStep(column=GRIPPER, step_max=step_max, range_end=range_end, unit=unit)


def _inward(end: float, other: float) -> float:
    """The nearest float32 that is not outside this end: a command clamped to the end must not be outside after the cast."""
    nearest = np.float32(end)
    is_outside = float(nearest) < end if end < other else float(nearest) > end
    return float(np.nextafter(nearest, np.float32(other)) if is_outside else nearest)
