"""What one process admits while Redis is away: its share of each customer's minute, in memory. Degrades, and is counted.

The share is the limit divided by the number of API processes, at least one, so that all of them together keep near the limit.
Day, month and concurrency are not known here; they hold again when Redis is back. Called by the limiter only.
"""

import time
from collections.abc import Callable
from uuid import UUID

from cachetools import TTLCache
from redis.asyncio.client import Pipeline

from control_plane.identity.principal import Principal
from control_plane.limits.admission import Admission
from control_plane.limits.bucket import Bucket
from control_plane.limits.standing import Standing, Window

MINUTE_US = 60_000_000
_BUCKETS = 20_000

# Whose bucket it is: a key, or a customer over all their live or all their test keys.
Owner = UUID | tuple[UUID, bool]


class LocalShare:
    """Buckets by customer and by key. A bucket unused for a minute has drained and may be dropped."""

    def __init__(self, *, processes: int, clock_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000) -> None:
        self._processes = processes
        self._clock_us = clock_us
        self._drained_at_us: TTLCache[Owner, int] = TTLCache(_BUCKETS, ttl=2 * MINUTE_US, timer=clock_us)

    def admit(self, principal: Principal) -> Admission:
        """Raises ApiError `minute_limit`."""
        now_us = self._clock_us()
        limits: dict[Owner, int] = {_account(principal): self._share(principal.limits.per_minute)}
        if principal.key_per_minute is not None:
            limits[principal.key_id] = self._share(principal.key_per_minute)
        before = {owner: self._bucket(owner, limit, now_us) for owner, limit in limits.items()}
        wait_us = max(bucket.wait_us for bucket in before.values())
        if wait_us:
            raise _standing(principal, before).refusal("minute", wait_us)
        counted = {owner: self._add(owner, bucket, now_us) for owner, bucket in before.items()}
        after = {owner: self._bucket(owner, limit, now_us) for owner, limit in limits.items()}
        return Admission(
            limits=principal.limits,
            standing=_standing(principal, after),
            lease=_LocalLease(self, counted),
            is_test=principal.is_test,
        )

    def give_back(self, counted: dict[Owner, tuple[int, int]]) -> None:
        """Undoes what `admit` counted, as far as it has not drained."""
        now_us = self._clock_us()
        for owner, (drained_at_us, interval_us) in counted.items():
            if owner in self._drained_at_us:
                self._drained_at_us[owner] -= max(0, min(drained_at_us - now_us, interval_us))

    def _share(self, limit: int) -> int:
        return max(1, limit // self._processes)

    def _bucket(self, owner: Owner, limit: int, now_us: int) -> Bucket:
        return Bucket(limit, MINUTE_US, max(0, self._drained_at_us.get(owner, 0) - now_us))

    def _add(self, owner: Owner, bucket: Bucket, now_us: int) -> tuple[int, int]:
        drained_at_us = now_us + bucket.level_us + bucket.interval_us
        self._drained_at_us[owner] = drained_at_us
        return drained_at_us, bucket.interval_us


def _account(principal: Principal) -> Owner:
    return principal.customer_id, principal.is_test


def _standing(principal: Principal, buckets: dict[Owner, Bucket]) -> Standing:
    own = buckets.get(principal.key_id)
    return Standing(
        minute=minute_window("minute", buckets[_account(principal)]),
        key_minute=None if own is None else minute_window("key-minute", own),
    )


class _LocalLease:
    def __init__(self, share: LocalShare, counted: dict[Owner, tuple[int, int]]) -> None:
        self._share = share
        self._counted = counted

    def settle_into(self, pipeline: Pipeline) -> None:
        """Nothing is held elsewhere."""

    def settle_unbilled_into(self, pipeline: Pipeline) -> None:
        """As above."""

    def settle_minute_into(self, pipeline: Pipeline) -> None:
        """As above: a share is of the minute only."""

    def give_back_into(self, pipeline: Pipeline) -> None:  # noqa: ARG002 -- a Lease takes one
        """At once: Redis, to which the pipeline would go, knows nothing of it."""
        counted, self._counted = self._counted, {}
        self._share.give_back(counted)


def minute_window(name: str, bucket: Bucket) -> Window:
    """A bucket as customers see it."""
    return Window(
        name=name,
        quota=bucket.limit,
        length_s=-(-bucket.length_us // 1_000_000),
        remaining=bucket.remaining,
        grows_in_us=bucket.grows_in_us,
        full_in_us=bucket.level_us,
    )
