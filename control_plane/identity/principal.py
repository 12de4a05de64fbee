"""Who calls: the one value that authentication produces and every later step reads. No store, no HTTP."""

from dataclasses import dataclass, replace
from uuid import UUID

from billing.tiers import Tier, tier_terms, trial_limits
from control_plane.identity.data_policy import STANDARD_TERMS, DataPolicy, DataTerms, lowered


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """What a customer may send. `per_month` None means unlimited; `concurrency` is requests in flight."""

    per_minute: int
    per_day: int
    per_month: int | None
    concurrency: int


def limits_in_force(
    tier: Tier, *, per_minute: int | None, per_day: int | None, per_month: int | None, concurrency: int | None
) -> RateLimits:
    """The tier's limits, where a customer has none of their own."""
    terms = tier_terms()[tier]
    return RateLimits(
        per_minute=per_minute or terms.per_minute,
        per_day=per_day or terms.per_day,
        per_month=per_month or terms.per_month,
        concurrency=concurrency or terms.concurrency,
    )


def limits_of_test_keys(live: RateLimits) -> RateLimits:
    """What all test keys of a customer may send together: the price list's, and never more than the customer's live keys."""
    own = trial_limits()
    return RateLimits(
        per_minute=min(own.per_minute, live.per_minute),
        per_day=min(own.per_day, live.per_day),
        per_month=own.per_month if live.per_month is None else min(own.per_month, live.per_month),
        concurrency=min(own.concurrency, live.concurrency),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerSafety:
    """The customer's own layer of the action guard, as it is stored. `version` grows with every change."""

    version: int
    document: str  # JSON of control_plane.guarding.fields.Settings
    preset: str | None  # opted in by an operator; None: the deployment's


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What one key may be used for. None: whatever the customer may."""

    robots: frozenset[str] | None = None
    policies: frozenset[str] | None = None


_WHOLE_ACCOUNT = Scope()


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An authenticated API key and the customer it belongs to. Limits count per customer over all its keys of one kind.

    A test key (`vla_test_…`) has small limits of its own, counted apart, and nothing it does is billed.
    """

    customer_id: UUID
    key_id: UUID
    company_name: str
    tier: Tier
    limits: RateLimits
    key_per_minute: int | None  # a key may carry a lower cap of its own
    safety: CustomerSafety | None = None  # None: nothing of their own
    scope: Scope = _WHOLE_ACCOUNT
    is_test: bool = False
    # The most billable requests of a month that the customer's spend cap allows. None: no cap, or requests cost nothing.
    most_billable: int | None = None
    deadline_ms: int | None = None  # of a request that names none; None: the service's
    data: DataTerms = STANDARD_TERMS  # what may be kept of a request

    @property
    def is_zero_retention(self) -> bool:
        """Whether nothing of what is asked and answered may be kept."""
        return self.data.is_zero


def unbilled(principal: Principal) -> Principal:
    """The same caller for a request that is never billed: a spend cap has nothing to say about it."""
    return principal if principal.most_billable is None else replace(principal, most_billable=None)


def with_less_kept(principal: Principal, policy: DataPolicy) -> Principal:
    """The same caller for a request that asks for this data policy; it can take away, never add."""
    terms = lowered(principal.data, policy)
    return principal if terms is principal.data else replace(principal, data=terms)
