"""Who calls: the one value that authentication produces and every later step reads. No store, no HTTP."""

from dataclasses import dataclass
from uuid import UUID

from billing.tiers import Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """What a customer may send. `per_month` None means unlimited; `concurrency` is requests in flight."""

    per_minute: int
    per_day: int
    per_month: int | None
    concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An authenticated API key and the customer it belongs to. Limits count per customer over all its keys."""

    customer_id: UUID
    key_id: UUID
    company_name: str
    tier: Tier
    limits: RateLimits
    key_per_minute: int | None  # a key may carry a lower cap of its own
    is_zero_retention: bool  # instruction and action are not kept in inference_logs
