"""Step 4: may this customer send one more? One Lua script, one round trip, all limits or none, on Redis's clock.

Counted per customer over all keys; a key may carry a lower minute of its own. Degrades when Redis is away: `local_share.py`
decides, and `vla_limiter_fallback_total` says so; who has a spend cap is refused then (fails closed). Knows no HTTP framework;
the journal carries what ends an admission.
"""

import hashlib
from calendar import monthrange
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast
from uuid import UUID

from msgspec import Struct
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import NoScriptError

from control_plane.errors import ApiError
from control_plane.identity.principal import Principal
from control_plane.limits.admission import Admission
from control_plane.limits.bucket import Bucket
from control_plane.limits.local_share import MINUTE_US, LocalShare, minute_window
from control_plane.limits.spend import Begun, Spending, unknown
from control_plane.limits.standing import RefusedBy, Standing, Window
from control_plane.metrics import Metrics
from control_plane.redis import REDIS_AWAY

_DAY_S = 86_400
_US = 1_000_000
_UNCOUNTED = b"uncounted"


def lua(*names: str) -> bytes:
    """The scripts of this folder, joined."""
    return b"".join(Path(__file__).with_name(name).read_bytes() for name in names)


class Beside(Protocol):
    """A command that goes to Redis in the admission's own round trip, right behind it."""

    def queue_into(self, pipeline: Pipeline, *, leases: bytes, lease: bytes) -> None:
        """Adds the one command. `lease` is a member of the sorted set `leases` exactly if the request was admitted."""

    def take(self, reply: object) -> None:
        """What it answered, an exception included."""


class _Reply(NamedTuple):
    """What admit.lua answers, in its order."""

    refused_by: bytes
    wait_us: int
    now_us: int
    drained_at_us: int
    key_drained_at_us: int
    day: int
    day_used: int
    month: int
    month_used: int
    month_ends_s: int
    run: bytes = b""  # the Redis process that counted; with a spend cap only, as what follows
    spend_used: int = 0


class Limiter:
    """One per process. `processes` is how many API processes share each customer's limits while Redis is away."""

    def __init__(
        self, *, redis: Redis, processes: int, metrics: Metrics, spending: Spending | None = None, minute_us: int = MINUTE_US
    ) -> None:
        """Without `spending` a customer with a spend cap is not admitted."""
        self._spending = spending
        self._redis = redis
        self._metrics = metrics
        self._minute_us = minute_us
        self._local = LocalShare(processes=processes)
        self._admit = lua("calendar.lua", "admit.lua")
        self._admit_sha = hashlib.sha1(self._admit, usedforsecurity=False).hexdigest()
        self._give_back, self._settle = lua("give_back.lua"), lua("settle.lua")

    async def admit(self, principal: Principal, lease_id: str, lease_ms: int, *, beside: Beside | None = None) -> Admission:
        """Counts one request and takes one place for at most `lease_ms`. The same `lease_id` again counts nothing more.

        `beside` is not run when Redis is away. Raises ApiError: minute_limit, day_limit, month_limit, spend_limit,
        concurrency_limit, with `Retry-After` and the headers; spend_unknown.
        """
        lease = lease_id.encode()
        keys = _keys(principal)
        arguments = self._arguments(principal, lease, lease_ms)
        try:
            reply = _Reply(*await self._run(beside, *keys, *arguments))
            if reply.refused_by == _UNCOUNTED:
                async with self._begin(principal, keys[1], reply) as begun:
                    reply = _Reply(*await self._run(beside, *keys, *arguments, b"%d" % begun.used, begun.run))
        except REDIS_AWAY:
            return self._admit_locally(principal)
        if reply.refused_by == _UNCOUNTED:  # another Redis process, or another month, since the count
            raise unknown(self._metrics)
        standing = self._standing(principal, reply)
        if reply.refused_by:
            raise standing.refusal(cast(RefusedBy, reply.refused_by.decode()), reply.wait_us)
        undo = self._undo(principal, lease, reply)
        return Admission(
            limits=principal.limits,
            standing=standing,
            lease=self._lease(principal, keys, undo, reply),
            is_test=principal.is_test,
        )

    def _begin(self, principal: Principal, leases: bytes, reply: _Reply) -> AbstractAsyncContextManager[Begun]:
        """What the count begins with. A Redis that has just started is waited for: the others bring back what it lacks."""
        if reply.wait_us or self._spending is None:
            raise unknown(self._metrics, retry_after_ms=max(1000, reply.wait_us // 1000))

        async def in_flight() -> list[bytes]:
            return cast(list[bytes], await self._redis.zrange(leases, 0, -1))

        return self._spending.begin(principal.customer_id, reply.month, reply.run, in_flight)

    def _lease(
        self, principal: Principal, keys: tuple[bytes, bytes, bytes], undo: tuple[bytes, ...], reply: _Reply
    ) -> "_RedisLease":
        is_capped = principal.most_billable is not None
        settle = (self._settle, undo[0], b"%d" % reply.month, reply.run) if is_capped else None
        return _RedisLease(keys=keys, id=undo[0], script=self._give_back, undo=undo, settle=settle)

    async def _run(self, beside: Beside | None, *keys_and_arguments: bytes) -> list[Any]:
        if beside is not None:
            return await self._run_together(beside, *keys_and_arguments)
        try:
            command: Any = self._redis.execute_command  # its `evalsha` goes there by two more calls
            return cast(list[Any], await command("EVALSHA", self._admit_sha, 3, *keys_and_arguments))
        except NoScriptError:  # a restarted or flushed Redis has forgotten it; EVAL makes it known again
            return cast(list[Any], await self._redis.eval(self._admit.decode(), 3, *keys_and_arguments))

    async def _run_together(self, beside: Beside, *keys_and_arguments: bytes) -> list[Any]:
        """As `_run`, with one more command in the same round trip."""
        reply: list[Any] | Exception = []
        for is_known in (True, False):
            pipeline = self._redis.pipeline(transaction=False)
            if is_known:
                pipeline.evalsha(self._admit_sha, 3, *keys_and_arguments)
            else:
                pipeline.eval(self._admit.decode(), 3, *keys_and_arguments)
            beside.queue_into(pipeline, leases=keys_and_arguments[1], lease=keys_and_arguments[3])
            reply, answer = await pipeline.execute(raise_on_error=False)
            if not isinstance(reply, NoScriptError):
                beside.take(answer)
                break
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _arguments(self, principal: Principal, lease: bytes, lease_ms: int) -> tuple[bytes, ...]:
        limits = principal.limits
        return (
            lease,
            b"%d" % lease_ms,
            b"%d" % self._minute_us,
            b"%d" % limits.per_minute,
            b"%d" % limits.per_day,
            _or_empty(limits.per_month),
            b"%d" % limits.concurrency,
            _or_empty(principal.key_per_minute),
            *(() if principal.most_billable is None else (b"%d" % principal.most_billable,)),
        )

    def _undo(self, principal: Principal, lease: bytes, reply: _Reply) -> tuple[bytes, ...]:
        own = principal.key_per_minute
        return (
            lease,
            b"%d" % reply.drained_at_us,
            b"%d" % self._bucket(principal.limits.per_minute).interval_us,
            _or_empty(None if own is None else reply.key_drained_at_us),
            _or_empty(None if own is None else self._bucket(own).interval_us),
            b"%d" % reply.day,
            b"%d" % reply.month,
            reply.run,
        )

    def _admit_locally(self, principal: Principal) -> Admission:
        """Fails closed for who has a spend cap, degrades for others."""
        if principal.most_billable is not None:
            raise unknown(self._metrics)
        try:
            admission = self._local.admit(principal)
        except ApiError:
            self._metrics.limiter_fallback.labels("refused").inc()
            raise
        self._metrics.limiter_fallback.labels("admitted").inc()
        return admission

    def _bucket(self, limit: int, level_us: int = 0) -> Bucket:
        return Bucket(limit, self._minute_us, level_us)

    def _standing(self, principal: Principal, reply: _Reply) -> Standing:
        limits, own = principal.limits, principal.key_per_minute
        minute = self._bucket(limits.per_minute, reply.drained_at_us - reply.now_us)
        day_ends_us = (reply.day + 1) * _DAY_S * _US - reply.now_us
        month_ends_us = reply.month_ends_s * _US - reply.now_us
        year, month = divmod(reply.month, 12)
        month_s = monthrange(year, month + 1)[1] * _DAY_S
        return Standing(
            minute=minute_window("minute", minute),
            key_minute=None
            if own is None
            else minute_window("key-minute", self._bucket(own, reply.key_drained_at_us - reply.now_us)),
            day=_calendar_window("day", limits.per_day, reply.day_used, ends_in_us=day_ends_us, length_s=_DAY_S),
            month=None
            if limits.per_month is None
            else _calendar_window(
                "month",
                limits.per_month,
                reply.month_used,
                ends_in_us=month_ends_us,
                length_s=month_s,
            ),
            spend=None
            if principal.most_billable is None
            else _calendar_window("spend", principal.most_billable, reply.spend_used, ends_in_us=month_ends_us, length_s=month_s),
        )


class _RedisLease(Struct, frozen=True, kw_only=True):
    keys: tuple[bytes, bytes, bytes]
    id: bytes
    script: bytes
    undo: tuple[bytes, ...]
    settle: tuple[bytes, ...] | None  # settle.lua and its arguments, for a customer with a spend cap

    def settle_into(self, pipeline: Pipeline) -> None:
        self._settle_into(pipeline, is_billed=b"1")

    def settle_unbilled_into(self, pipeline: Pipeline) -> None:
        self._settle_into(pipeline, is_billed=b"0")

    def _settle_into(self, pipeline: Pipeline, *, is_billed: bytes) -> None:
        if self.settle is None:
            pipeline.execute_command("ZREM", self.keys[1], self.id)
        else:
            script, *arguments = self.settle
            pipeline.eval(script.decode(), 2, *self.keys[:2], *arguments, is_billed)

    def settle_minute_into(self, pipeline: Pipeline) -> None:
        lease, drained_at, _, key_drained_at, _, *rest = self.undo
        pipeline.eval(self.script.decode(), 3, *self.keys, lease, drained_at, b"0", key_drained_at, b"0", *rest)

    def give_back_into(self, pipeline: Pipeline) -> None:
        # EVAL and not EVALSHA: inside someone else's pipeline there is nobody to answer NOSCRIPT. It is short, and rare.
        pipeline.eval(self.script.decode(), 3, *self.keys, *self.undo)


async def forget_spending(redis: Redis, customer_id: UUID) -> None:
    """The customer's next request begins the count of their spending anew. Raises one of REDIS_AWAY."""
    await redis.hdel(f"vla:limits:{{{customer_id.hex}}}", "spend_run")


def _keys(principal: Principal) -> tuple[bytes, bytes, bytes]:
    """All with the customer's hash tag, so that a cluster keeps them on one node. Test keys are counted apart from live ones."""
    return _keys_of(principal.customer_id.int, principal.key_id.int, is_test=principal.is_test)


@lru_cache(maxsize=10_000)
def _keys_of(customer: int, key: int, *, is_test: bool) -> tuple[bytes, bytes, bytes]:
    """By number: a UUID works its hash out anew at each look."""
    kind = b":test" if is_test else b""
    return (
        b"vla:limits:{%032x}%b" % (customer, kind),
        b"vla:leases:{%032x}%b" % (customer, kind),
        b"vla:limits:{%032x}:%032x" % (customer, key),
    )


def _or_empty(number: int | None) -> bytes:
    return b"" if number is None else b"%d" % number


def _calendar_window(name: str, quota: int, used: int, *, ends_in_us: int, length_s: int) -> Window:
    return Window(
        name=name,
        quota=quota,
        length_s=length_s,
        remaining=max(0, quota - used),
        grows_in_us=ends_in_us,
        full_in_us=ends_in_us,
    )
