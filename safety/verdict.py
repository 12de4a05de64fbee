"""What the guard says about an action chunk: a value, never an exception.

Frozen shapes shared by every rule and by the wire (reference: safety catalogue §3.2, §3.5, §3.6). Knows no HTTP and no policy.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

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
    TRUNCATED = "truncated"
    INFORMED = "informed"  # looked, and says what it saw; it has no threshold, so it has no score
    REJECTED = "rejected"
    NOT_EVALUATED = "not_evaluated"


class NotEvaluated(StrEnum):
    """Why a rule could not look: the closed list of §3.5, and one truth that it lacks (the last)."""

    NO_STATE = "no_state"
    STATE_STALE = "state_stale"
    NO_SESSION = "no_session"
    NO_TIMESTAMP = "no_timestamp"
    LIMIT_UNPUBLISHED = "limit_unpublished"
    NO_GEOMETRY = "no_geometry"
    NOT_APPLICABLE = "not_applicable"
    DISABLED_BY_CUSTOMER = "disabled_by_customer"
    REFUSED_EARLIER = "refused_earlier"  # an earlier rule refused the chunk, so there was nothing left to look at


class RefusedFor(StrEnum):
    """Whose doing a refusal is, so that a caller can tell a wrong request from a wrong motion."""

    MOTION = "motion"  # what the policy wanted: answered, not billed, with a hold
    REQUIRED_RULE = "required_rule_not_evaluated"  # a rule that the customer requires could not look: answered, with a hold
    STATE = "invalid_state"  # the reported state is malformed or impossible (D0): the request is at fault
    SEQUENCE = "sequence"  # a replayed or older `seq`, or an impossible `executed_index` (E5): the request is at fault

    @property
    def is_request_at_fault(self) -> bool:
        """True when the request could never have been answered, whatever the policy wanted."""
        return self in (RefusedFor.STATE, RefusedFor.SEQUENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """One rule's outcome. `score` is None when not evaluated; `at` is (step, dimension or None).

    Most are built once and stand in verdict after verdict, so each keeps how it reads; `safety.wire` fills that in.
    """

    id: str  # "B1.ee_linear_speed"
    status: RuleStatus
    score: float | None
    value: float | None = None
    limit: float | None = None
    unit: str | None = None
    at: tuple[int, int | None] | None = None
    reason: NotEvaluated | None = None
    message: str | None = None
    row: dict[str, Any] | None = field(init=False, default=None, repr=False, compare=False)


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
    truncated_at: int | None = None  # the first step that was cut off
    refused_for: RefusedFor | None = None
    refused_field: str | None = None  # of the request, where it is at fault: "state.q[3]", "seq"
    raw: NDArray[np.float32] | None = None  # (T, D): what the policy wanted, for the log; None when it was no chunk
    frozen_count: int = 0  # requests in a row, this one included, that repeated the pictures and q of the one before
    frozen_steps: int = 0  # steps of motion that were commanded meanwhile
    tracking_count: int = 0  # requests in a row, this one included, with the robot far from where it was sent
    expires_in_ms: float | None = None  # until the last returned step is over, less the known age; None when refused

    @property
    def score_is_upper_bound(self) -> bool:
        """True when some applicable rule could not look, so the real score may be lower."""
        return self.coverage.evaluated < self.coverage.applicable
