"""What the guard says about an action chunk: a value, never an exception.

Frozen shapes shared by every rule and by the wire (reference: safety catalogue §3.2, §3.5, §3.6). Knows no HTTP and no policy.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Decision(StrEnum):
    """What happened to the chunk, mildest first."""

    PASS = "pass"  # noqa: S105 -- a decision, not a password
    CLAMP = "clamp"
    TRUNCATE = "truncate"
    REJECT = "reject"


class RuleStatus(StrEnum):
    """How one rule came out."""

    PASSED = "passed"
    WARNED = "warned"
    CLAMPED = "clamped"
    REJECTED = "rejected"
    NOT_EVALUATED = "not_evaluated"


class NotEvaluated(StrEnum):
    """Why a rule could not look: the closed list of §3.5, and two truths that it lacks (the last two)."""

    NO_STATE = "no_state"
    STATE_STALE = "state_stale"
    NO_SESSION = "no_session"
    NO_TIMESTAMP = "no_timestamp"
    LIMIT_UNPUBLISHED = "limit_unpublished"
    NO_GEOMETRY = "no_geometry"
    NOT_APPLICABLE = "not_applicable"
    DISABLED_BY_CUSTOMER = "disabled_by_customer"
    REFUSED_EARLIER = "refused_earlier"  # an earlier rule refused the chunk, so there was nothing left to look at
    NOT_IMPLEMENTED = "not_implemented"  # needs nothing from the caller, but this guard version does not have it


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """One rule's outcome. `score` is None when not evaluated; `at` is (step, dimension or None)."""

    id: str  # "B1.ee_linear_speed"
    status: RuleStatus
    score: float | None
    value: float | None = None
    limit: float | None = None
    unit: str | None = None
    at: tuple[int, int | None] | None = None
    reason: NotEvaluated | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How many rules looked, of how many that could have."""

    evaluated: int
    applicable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """What a refusal suggests: hold. `values` is None where holding cannot be expressed; it is not a safe state."""

    type: str
    values: tuple[float | None, ...] | None
    is_safe_state: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The guard's answer. `actions` is (T', D) float32: what may be sent; empty (0, D) when rejected."""

    decision: Decision
    actions: NDArray[np.float32]
    is_modified: bool
    overall_score: float  # minimum of the evaluated rules; 0 means refused
    limiting_rule: str | None
    coverage: Coverage
    rules: tuple[RuleResult, ...]
    fallback: Fallback | None
    profile: str  # "franka_panda@1/sha256:…"
    guard_version: str
    truncated_at: int | None = None

    @property
    def score_is_upper_bound(self) -> bool:
        """True when some applicable rule could not look, so the real score may be lower."""
        return self.coverage.evaluated < self.coverage.applicable
