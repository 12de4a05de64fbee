"""H1: a clamp that does not do its work is caught before anything is returned."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from safety.guard import Guard
from safety.layering import base_policy
from safety.profile import Preset
from safety.rules.catalogue import RuleSet, rule_set
from safety.rules.rule import Evidence
from safety.verdict import Decision
from tests.safety.factories import action_space, chunk, panda, rule


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultyClamp:
    """Multiplies the chunk by a factor instead of bringing it within the limit."""

    enforces = frozenset({"B1.ee_linear_speed"})
    factor: float

    def clamp(self, actions: NDArray[np.float64], evidence: Evidence) -> None:
        del evidence
        actions *= self.factor


def guard_with_a_faulty_clamp(factor: float) -> Guard:
    rules = rule_set(action_space(), panda(), base_policy(panda(), Preset.REDUCED))
    faulty: RuleSet = replace(rules, clamps=(FaultyClamp(factor=factor),))
    return Guard(panda(), Preset.REDUCED, action_space(), rules=faulty)


def test_a_clamp_that_leaves_the_limit_broken_ends_in_a_refusal() -> None:
    verdict = guard_with_a_faulty_clamp(1.0).check(chunk(x=0.04))
    assert (verdict.decision, verdict.limiting_rule, verdict.overall_score) == (Decision.REJECT, "H1.post_check", 0)
    assert verdict.actions.shape == (0, 7)
    message = rule(verdict, "H1.post_check").message
    assert message == "B1.ee_linear_speed still fails after clamping, so nothing is returned"


def test_a_clamp_that_breaks_another_limit_ends_in_a_refusal() -> None:
    assert guard_with_a_faulty_clamp(4.0).check(chunk(x=0.04)).limiting_rule == "H1.post_check"


def test_a_clamp_that_produces_nan_ends_in_a_refusal() -> None:
    verdict = guard_with_a_faulty_clamp(np.nan).check(chunk(x=0.04))
    assert verdict.limiting_rule == "H1.post_check"
    assert rule(verdict, "H1.post_check").message == "A2.finite still fails after clamping, so nothing is returned"


def test_a_clamp_that_repairs_too_much_still_passes_the_post_check() -> None:
    assert guard_with_a_faulty_clamp(0.5).check(chunk(x=0.04)).decision is Decision.CLAMP
