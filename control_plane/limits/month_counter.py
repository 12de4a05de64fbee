"""A customer's count of the month in Redis, as reconciliation sees it: read, raised to what is proven, lowered by a surplus.

Requests are admitted while this runs, so both changes are one step in Redis. Errors are those of REDIS_AWAY. Knows no database.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

from redis.asyncio import Redis

_REMEMBERED = timedelta(days=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthCounter:
    """What Redis had counted at one moment, and how many of those requests were still under way."""

    used: int
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """A count before and after."""

    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What the log proves of one customer: on a day, and in its month. Test requests are counted apart."""

    customer: UUID
    day: date
    in_day: int
    in_month: int
    is_test: bool


async def read_counters(redis: Redis, customers: Sequence[UUID], month: date) -> dict[UUID, MonthCounter]:
    """The counters of that month; each customer's count and leases of one moment. A counter of another month is 0."""
    pipeline = redis.pipeline(transaction=True)
    for customer in customers:
        pipeline.hmget(_counters(customer), "month", "month_used")
        pipeline.zcard(_leases(customer))
    answers = await pipeline.execute()
    return {
        customer: MonthCounter(used=_used(answers[2 * n], month), in_flight=int(answers[2 * n + 1]))
        for n, customer in enumerate(customers)
    }


async def raise_counter(redis: Redis, customer: UUID, month: date, *, at_least: int) -> Raised:
    """Never lowers. Nothing happens when the counters have moved on to a later month."""
    answer = await redis.eval(_script("raise_month.lua"), 1, _counters(customer), _index(month), at_least, _ends_ms(month))
    return Raised(before=int(answer[0]), after=int(answer[1])) if answer else Raised(before=0, after=0)


async def raise_used(redis: Redis, used: Used) -> bool:
    """Day and month together, for a Redis that lost them. Never lowers. Whether anything was raised."""
    name = _counters(used.customer) + (b":test" if used.is_test else b"")
    day = (used.day - date(1970, 1, 1)).days
    arguments = (_index(used.day), used.in_month, day, used.in_day, _ends_ms(used.day))
    return bool(await redis.eval(_script("raise_used.lua"), 1, name, *arguments))


async def lower_counter(redis: Redis, customer: UUID, month: date, *, surplus: int) -> int:
    """Takes off what is surplus now and was at the last look. Returns how much; 0 at the first look."""
    keys = (_counters(customer), b"vla:surplus:{%b}" % customer.hex.encode())
    remembered_ms = int(_REMEMBERED.total_seconds() * 1000)
    return int(await redis.eval(_script("lower_month.lua"), 2, *keys, _index(month), max(0, surplus), remembered_ms))


def _used(row: Sequence[bytes | None], month: date) -> int:
    counted, used = row
    return int(used or 0) if counted is not None and int(counted) == _index(month) else 0


def _ends_ms(month: date) -> int:
    """When the next month begins."""
    beyond = (month.replace(day=1) + timedelta(days=33)).replace(day=1)
    return int(datetime.combine(beyond, datetime.min.time(), tzinfo=UTC).timestamp() * 1000)


def _index(month: date) -> int:
    """As calendar.lua counts months."""
    return month.year * 12 + month.month - 1


def _counters(customer: UUID) -> bytes:
    return b"vla:limits:{%b}" % customer.hex.encode()


def _leases(customer: UUID) -> bytes:
    return b"vla:leases:{%b}" % customer.hex.encode()


def _script(name: str) -> str:
    return Path(__file__).with_name(name).read_text()
