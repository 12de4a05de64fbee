"""Step 8: the safety verdict on the motion, by the guard of this policy on this robot. Fails closed.

Every guard is built at start-up, so a convention or a robot that cannot be checked stops the process, not a request. Knows no
rule: those are `safety`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from structlog.typing import FilteringBoundLogger

from control_plane.errors import ApiError
from control_plane.inference.observation import Observation
from control_plane.metrics import Metrics
from control_plane.policies.catalogue import Catalogue
from export.contract.facts import Action
from safety.action_space import ActionKind, ActionSpace, GripperPolarity
from safety.guard import Guard
from safety.profile import Preset, load_profile
from safety.verdict import RuleStatus, Verdict

# What a fault in the guard's arithmetic can raise. Anything else becomes internal_error, which gives no action either.
_FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
_NOTABLE = frozenset({RuleStatus.WARNED, RuleStatus.CLAMPED, RuleStatus.REJECTED})


class Checker(Protocol):
    """What `safety.guard.Guard` is to this step."""

    def check(self, raw: object) -> Verdict:
        """The verdict on a (T, D) array."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """A guard per (policy, robot)."""

    by_pair: Mapping[tuple[str, str], Checker]
    metrics: Metrics
    log: FilteringBoundLogger

    def judge(self, observation: Observation, actions: NDArray[np.float32]) -> Verdict:
        """What may be sent to the robot. Raises ApiError `guard_unavailable` rather than let an unchecked motion pass."""
        policy = observation.policy.name
        try:
            verdict = self.by_pair[policy, observation.robot_type].check(actions)
        except _FAULTS:
            self.log.exception("guard_failed", policy=policy, robot_type=observation.robot_type)
            raise ApiError("guard_unavailable", retry_after_ms=1000) from None
        self.metrics.guard_decisions.labels(policy, verdict.decision.value).inc()
        for rule in verdict.rules:
            if rule.status in _NOTABLE:
                self.metrics.guard_rules.labels(rule.id, rule.status.value).inc()
        return verdict


def build_guards(catalogue: Catalogue, *, preset: Preset) -> Mapping[tuple[str, str], Guard]:
    """One per policy and robot it fits. Raises what `safety` raises for a robot or a convention it cannot check."""
    return MappingProxyType(
        {
            (policy.name, robot): Guard(load_profile(robot), preset, action_space_of(policy.manifest.action))
            for policy in catalogue.policies.values()
            for robot in policy.manifest.robots
        }
    )


def action_space_of(action: Action) -> ActionSpace:
    """The manifest's facts in the guard's words; both sides use the same strings."""
    return ActionSpace(
        kind=ActionKind(action.kind.value),
        names=action.names,
        units=action.units,
        control_hz=action.control_hz,
        gripper_polarity=None if action.gripper_polarity is None else GripperPolarity(action.gripper_polarity.value),
    )
