"""What the pipeline asks of its neighbours, as small Protocols: who calls, may they, write it down.

The real ones live in `identity`, `limits` and `usage`; tests bring one fake each. Nothing here knows how they do it.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from redis.asyncio.client import Pipeline as RedisPipeline

from control_plane.identity.principal import Principal
from control_plane.limits.limiter import Beside
from control_plane.usage.event import UsageEvent

# Commands that ride in the journal's own round trip.
Commands = Callable[[RedisPipeline], None]


class Authenticator(Protocol):
    """Step 3."""

    async def authenticate(self, authorization: str | None) -> Principal:
        """Who holds the key of this Authorization header. Raises ApiError."""


class Admission(Protocol):
    """A granted request: what is left, and how to end it. None means unlimited."""

    @property
    def remaining_minute(self) -> int | None:
        """Requests left in this minute."""

    @property
    def remaining_day(self) -> int | None:
        """Requests left today (UTC)."""

    @property
    def remaining_month(self) -> int | None:
        """Requests left this month (UTC)."""

    def headers(self) -> Mapping[str, str]:
        """`RateLimit-Policy`, `RateLimit`, `X-RateLimit-*`."""

    def settle_into(self, pipeline: RedisPipeline) -> None:
        """Ends the request: it counts, its place among the concurrent ones is free again."""

    def settle_unbilled_into(self, pipeline: RedisPipeline) -> None:
        """As `settle_into`, for a request that will not be billed."""

    def settle_minute_into(self, pipeline: RedisPipeline) -> None:
        """As `settle_into`, for a request without a usage event: it counts in the minute only."""

    def give_back_into(self, pipeline: RedisPipeline) -> None:
        """Ends the request as if it had never been sent: our fault is not the caller's quota."""


class Limiter(Protocol):
    """Step 4."""

    async def admit(self, principal: Principal, lease_id: str, lease_ms: int, *, beside: Beside | None = None) -> Admission:
        """Counts the request; `beside` goes in the same round trip. Raises ApiError with the limit's own headers."""


class Journal(Protocol):
    """Step 9."""

    async def record(self, event: UsageEvent, *, together_with: Commands) -> None:
        """Returns when the event is durable. Raises ApiError `journal_unavailable` when it is not."""
