"""A request that was let in: what is left, and how it ends. Counts nothing itself: the journal carries its commands to Redis."""

from typing import Protocol

from msgspec import Struct
from redis.asyncio.client import Pipeline

from control_plane.identity.principal import RateLimits
from control_plane.limits.standing import Standing

TEST_HEADER = "X-Vla-Test"


class Lease(Protocol):
    """A place among the customer's concurrent requests, and what was counted for it."""

    def settle_into(self, pipeline: Pipeline) -> None:
        """Adds what frees the place."""

    def settle_unbilled_into(self, pipeline: Pipeline) -> None:
        """As `settle_into`, for a request that will not be billed: it no longer counts against a spend cap."""

    def settle_minute_into(self, pipeline: Pipeline) -> None:
        """Adds what frees the place and leaves the request counted in the minute only, as a request without a usage event is."""

    def give_back_into(self, pipeline: Pipeline) -> None:
        """Adds what frees the place and undoes the counting, once, however often it is sent."""


class Admission(Struct, frozen=True, kw_only=True):
    """End it with one of the four `…_into`; one that is never ended frees its place when its lease ends."""

    limits: RateLimits
    standing: Standing
    lease: Lease
    is_test: bool = False

    @property
    def remaining_minute(self) -> int:
        """Requests left now, the key's own cap included."""
        return self.standing.tightest_minute.remaining

    @property
    def remaining_day(self) -> int | None:
        """Requests left until midnight UTC. None: not known, because Redis is away."""
        return None if self.standing.day is None else self.standing.day.remaining

    @property
    def remaining_month(self) -> int | None:
        """Requests left until the month ends (UTC). None: unlimited, or not known."""
        return None if self.standing.month is None else self.standing.month.remaining

    def headers(self) -> dict[str, str]:
        """The rate limit headers of the answer, and whether it is a test key's."""
        headers = self.standing.headers()
        if self.is_test:
            headers[TEST_HEADER] = "true"
        return headers

    def settle_into(self, pipeline: Pipeline) -> None:
        """The request stays counted."""
        self.lease.settle_into(pipeline)

    def settle_unbilled_into(self, pipeline: Pipeline) -> None:
        """The request stays counted, and is not billed."""
        self.lease.settle_unbilled_into(pipeline)

    def settle_minute_into(self, pipeline: Pipeline) -> None:
        """The request stays counted in the minute, and in nothing that is reconciled with usage."""
        self.lease.settle_minute_into(pipeline)

    def give_back_into(self, pipeline: Pipeline) -> None:
        """The work failed by our fault: the request is not counted."""
        self.lease.give_back_into(pipeline)
