"""The Lua scripts, run as they are: the calendar, the bucket, all or nothing, and giving back, judged by Redis's own clock."""

import asyncio
import calendar
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from control_plane.limits.bucket import Bucket
from control_plane.limits.limiter import lua
from tests.control_plane.eventually import eventually
from tests.control_plane.limits.conftest import a_lease

ON_REDIS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
DAY_US = 86_400_000_000


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the script said."""

    refused_by: str
    wait_us: int
    now_us: int
    drained_at_us: int
    key_drained_at_us: int
    day: int
    day_used: int
    month: int
    month_used: int
    month_ends_s: int


@dataclass(kw_only=True)
class Customer:
    """Someone with limits, and the keys under which Redis counts them."""

    redis: Redis
    minute_us: int = 60_000_000
    per_minute: int = 1000
    per_day: int = 1000
    per_month: int | None = 1000
    concurrency: int = 1000
    key_per_minute: int | None = None
    lease_ms: int = 60_000
    name: str = field(default_factory=a_lease)

    @property
    def keys(self) -> tuple[str, str, str]:
        """Counters, leases, the key's own minute."""
        return f"c:{{{self.name}}}", f"l:{{{self.name}}}", f"k:{{{self.name}}}"

    async def admit(self, lease: str | None = None) -> Answer:
        """One request."""
        limits = (self.minute_us, self.per_minute, self.per_day, _or_empty(self.per_month), self.concurrency)
        arguments = (lease or a_lease(), self.lease_ms, *limits, _or_empty(self.key_per_minute))
        refused_by, *numbers = await self.redis.eval(lua("calendar.lua", "admit.lua").decode(), 3, *self.keys, *arguments)
        names = list(Answer.__dataclass_fields__)[1:]
        return Answer(refused_by=refused_by.decode(), **dict(zip(names, numbers, strict=True)))

    async def give_back(self, lease: str, answer: Answer) -> int:
        """Undoes an admission; 1 if there was something to undo."""
        own = self.key_per_minute
        key = ("", "") if own is None else (answer.key_drained_at_us, Bucket(own, self.minute_us, 0).interval_us)
        arguments = (lease, answer.drained_at_us, self.interval_us, *key, answer.day, answer.month)
        done: int = await self.redis.eval(lua("give_back.lua").decode(), 3, *self.keys, *arguments)
        return done

    @property
    def interval_us(self) -> int:
        """What one request adds to the bucket."""
        return Bucket(self.per_minute, self.minute_us, 0).interval_us

    async def counters(self) -> dict[bytes, bytes]:
        """The hash as it lies there."""
        return dict(await cast(Awaitable[dict[bytes, bytes]], self.redis.hgetall(self.keys[0])))

    async def snapshot(self) -> list[Any]:
        """Everything that is stored about this customer."""
        leases = await self.redis.zrange(self.keys[1], 0, -1, withscores=True)
        return [await self.counters(), leases, await self.redis.get(self.keys[2])]


def _or_empty(number: int | None) -> str:
    return "" if number is None else str(number)


@ON_REDIS
@given(st.integers(min_value=0, max_value=int(datetime(2400, 1, 1, tzinfo=UTC).timestamp())))
async def test_the_month_is_the_calendars(redis: Redis, time_s: int) -> None:
    script = lua("calendar.lua").decode() + "local month, ends_s = month_of(tonumber(ARGV[1])) return {month, ends_s}"
    at = datetime.fromtimestamp(time_s, UTC)
    days = calendar.monthrange(at.year, at.month)[1]
    ends_s = int(datetime(at.year, at.month, 1, tzinfo=UTC).timestamp()) + days * 86_400
    assert await redis.eval(script, 0, time_s) == [at.year * 12 + at.month - 1, ends_s]


@pytest.mark.parametrize("at", ["1970-01-01", "2000-02-29", "2024-02-29", "2024-12-31", "2026-12-31", "2027-01-01", "2100-02-28"])
async def test_the_last_second_of_a_month_is_still_in_it(redis: Redis, at: str) -> None:
    script = lua("calendar.lua").decode() + "local month, ends_s = month_of(tonumber(ARGV[1])) return {month, ends_s}"
    month, ends_s = await redis.eval(script, 0, int(datetime.fromisoformat(f"{at}T12:00:00+00:00").timestamp()))
    assert await redis.eval(script, 0, ends_s - 1) == [month, ends_s]
    assert (await redis.eval(script, 0, ends_s))[0] == month + 1


@ON_REDIS
@given(
    per_minute=st.integers(min_value=1, max_value=7),
    minute_us=st.integers(min_value=5_000, max_value=60_000),
    pauses_ms=st.lists(st.integers(min_value=0, max_value=12), max_size=25),
)
async def test_the_script_decides_as_the_arithmetic_does(
    redis: Redis, per_minute: int, minute_us: int, pauses_ms: list[int]
) -> None:
    customer = Customer(redis=redis, per_minute=per_minute, minute_us=minute_us)
    drained_at_us = 0
    for pause_ms in pauses_ms:
        answer = await customer.admit()
        before = Bucket(per_minute, minute_us, max(0, drained_at_us - answer.now_us))
        assert answer.wait_us == before.wait_us
        assert (answer.refused_by == "") == (before.remaining > 0)
        if answer.refused_by == "":
            drained_at_us = answer.now_us + before.level_us + before.interval_us
        assert answer.drained_at_us == max(drained_at_us, answer.now_us)
        await asyncio.sleep(pause_ms / 1000)


async def test_a_fresh_customer_may_burst_and_then_goes_at_the_steady_rate(redis: Redis) -> None:
    customer = Customer(redis=redis, per_minute=5, minute_us=500_000)
    admitted: list[Answer] = []
    while len(admitted) < 9:
        answer = await customer.admit()
        if answer.refused_by == "":
            admitted.append(answer)
        else:
            await asyncio.sleep(answer.wait_us / 1e6)
    began_us = admitted[0].now_us
    for index, answer in enumerate(admitted):
        assert answer.now_us - began_us >= (index - 4) * 100_000


async def test_waiting_exactly_as_long_as_told_is_long_enough(redis: Redis) -> None:
    customer = Customer(redis=redis, per_minute=3, minute_us=100_000)
    for _ in range(20):
        answer = await customer.admit()
        if answer.refused_by:
            await asyncio.sleep(answer.wait_us / 1e6)
            assert (await customer.admit()).refused_by == ""


@pytest.mark.parametrize(
    ("limit", "refused_by"),
    [
        ({"per_day": 2}, "day"),
        ({"per_month": 2}, "month"),
        ({"concurrency": 2}, "concurrency"),
        ({"key_per_minute": 2}, "minute"),
    ],
)
async def test_a_refusal_by_one_limit_leaves_all_others_untouched(redis: Redis, limit: dict[str, int], refused_by: str) -> None:
    customer = Customer(redis=redis, **({"key_per_minute": 1000} | limit))  # type: ignore[arg-type]  # all of them integers
    for _ in range(2):
        assert (await customer.admit()).refused_by == ""
    before = await customer.snapshot()
    for _ in range(3):
        assert (await customer.admit()).refused_by == refused_by
    assert await customer.snapshot() == before


async def test_the_minute_refuses_without_spending_the_day(redis: Redis) -> None:
    customer = Customer(redis=redis, per_minute=2)
    answers = [await customer.admit() for _ in range(10)]
    assert [answer.refused_by for answer in answers] == ["", ""] + ["minute"] * 8
    assert (answers[-1].day_used, answers[-1].month_used) == (2, 2)


async def test_the_longest_wait_is_the_one_that_is_told(redis: Redis) -> None:
    customer = Customer(redis=redis, per_minute=1, per_day=1)
    await customer.admit()
    answer = await customer.admit()
    assert (answer.refused_by, answer.wait_us) == ("day", (answer.day + 1) * DAY_US - answer.now_us)
    customer.per_month = 1
    answer = await customer.admit()
    assert answer.refused_by in {"month", "day"}  # on the last day of a month they end together
    assert answer.wait_us == answer.month_ends_s * 1_000_000 - answer.now_us


async def test_yesterdays_count_does_not_count_today(redis: Redis) -> None:
    customer = Customer(redis=redis, per_day=3)
    today = (await customer.admit()).day
    await redis.hset(customer.keys[0], mapping={"day": today - 1, "day_used": 3})
    answer = await customer.admit()
    assert (answer.refused_by, answer.day_used, answer.month_used) == ("", 1, 2)


async def test_last_months_count_does_not_count_this_month(redis: Redis) -> None:
    customer = Customer(redis=redis, per_month=3)
    month = (await customer.admit()).month
    await redis.hset(customer.keys[0], mapping={"month": month - 1, "month_used": 3})
    answer = await customer.admit()
    assert (answer.refused_by, answer.month_used, answer.day_used) == ("", 1, 2)


async def test_everything_stored_ends_by_itself(redis: Redis) -> None:
    customer = Customer(redis=redis, key_per_minute=6, lease_ms=7_000)
    answer = await customer.admit()
    counters, leases, own = customer.keys
    assert await redis.pexpiretime(counters) == answer.month_ends_s * 1000 + 120_000
    assert await redis.pexpiretime(leases) == answer.now_us // 1000 + 7_000
    assert await redis.pexpiretime(own) == -(-answer.key_drained_at_us // 1000)
    customer.lease_ms = 1_000  # a shorter one does not shorten the longer one's
    await customer.admit()
    assert await redis.pexpiretime(leases) == answer.now_us // 1000 + 7_000


async def test_an_unlimited_month_is_counted_and_never_refused(redis: Redis) -> None:
    customer = Customer(redis=redis, per_month=None)
    assert [(await customer.admit()).month_used for _ in range(3)] == [1, 2, 3]


async def test_the_same_lease_again_counts_nothing(redis: Redis) -> None:
    customer = Customer(redis=redis, per_minute=2, concurrency=1)
    first = await customer.admit("the lease")
    before = await customer.snapshot()
    again = await customer.admit("the lease")
    assert (again.refused_by, again.day_used, again.drained_at_us) == ("", 1, first.drained_at_us)
    assert await customer.snapshot() == before


async def test_a_lease_that_was_never_ended_frees_its_place(redis: Redis) -> None:
    customer = Customer(redis=redis, concurrency=1, lease_ms=50)
    assert (await customer.admit()).refused_by == ""

    async def is_free() -> bool:
        return (await customer.admit()).refused_by == ""

    await eventually(is_free)
    assert len(await redis.zrange(customer.keys[1], 0, -1)) == 1


async def test_giving_back_makes_room_for_exactly_one(redis: Redis) -> None:
    customer = Customer(redis=redis, per_minute=10, key_per_minute=10, per_day=10, per_month=10, concurrency=10)
    leases = {a_lease(): None for _ in range(10)}
    answers = {lease: await customer.admit(lease) for lease in leases}
    assert (await customer.admit()).refused_by != ""
    failed = next(iter(answers))
    assert await customer.give_back(failed, answers[failed]) == 1
    assert [(await customer.admit()).refused_by == "" for _ in range(2)] == [True, False]


async def test_giving_back_twice_is_giving_back_once(redis: Redis) -> None:
    customer = Customer(redis=redis, key_per_minute=1000)
    await customer.admit()
    answer = await customer.admit("failed")
    assert await customer.give_back("failed", answer) == 1
    before = await customer.snapshot()
    assert await customer.give_back("failed", answer) == 0
    assert await customer.snapshot() == before
    assert before[0][b"day_used"] == b"1"


async def test_what_was_settled_is_not_given_back(redis: Redis) -> None:
    customer = Customer(redis=redis)
    answer = await customer.admit("settled")
    await redis.zrem(customer.keys[1], "settled")
    before = await customer.snapshot()
    assert await customer.give_back("settled", answer) == 0
    assert await customer.snapshot() == before


async def test_what_was_counted_yesterday_is_not_given_back_today(redis: Redis) -> None:
    customer = Customer(redis=redis)
    answer = await customer.admit("failed")
    later: dict[Any, Any] = {"day": answer.day + 1, "day_used": 5, "month": answer.month + 1, "month_used": 5}
    await redis.hset(customer.keys[0], mapping=later)
    await customer.give_back("failed", answer)
    counters = await customer.counters()
    assert (counters[b"day_used"], counters[b"month_used"]) == (b"5", b"5")


async def test_giving_back_never_goes_below_zero_nor_brings_counters_back_to_life(redis: Redis) -> None:
    customer = Customer(redis=redis, key_per_minute=5)
    answer = await customer.admit("failed")
    await redis.hset(customer.keys[0], mapping={"day_used": 0, "month_used": 0})
    await customer.give_back("failed", answer)
    counters = await customer.counters()
    assert (counters[b"day_used"], counters[b"month_used"]) == (b"0", b"0")
    answer = await customer.admit("failed again")
    await redis.delete(customer.keys[0], customer.keys[2])
    await customer.give_back("failed again", answer)
    assert await redis.exists(*customer.keys) == 0


async def test_what_has_drained_already_is_not_given_back(redis: Redis) -> None:
    customer = Customer(redis=redis, per_minute=10, minute_us=100_000)
    old = await customer.admit("old")
    await asyncio.sleep(0.02)  # two intervals: the old request's has drained
    new = await customer.admit("new")
    await customer.give_back("old", old)
    assert int((await customer.counters())[b"drained_at"]) == new.drained_at_us


@ON_REDIS
@given(
    per_minute=st.integers(min_value=1, max_value=6),
    steps=st.lists(st.tuples(st.booleans(), st.integers(min_value=0, max_value=9)), max_size=30),
)
async def test_what_is_kept_never_exceeds_the_rate_by_more_than_what_was_given_back(
    redis: Redis, per_minute: int, steps: list[tuple[bool, int]]
) -> None:
    customer = Customer(redis=redis, per_minute=per_minute, minute_us=30_000)
    admitted_us: list[int] = []
    given_back = 0
    for is_failure, pause_ms in steps:
        lease = a_lease()
        answer = await customer.admit(lease)
        if answer.refused_by == "":
            admitted_us.append(answer.now_us)
            if is_failure:
                given_back += await customer.give_back(lease, answer)
        await asyncio.sleep(pause_ms / 1000)
    assert int((await customer.counters() or {b"day_used": b"0"})[b"day_used"]) == len(admitted_us) - given_back
    for first in range(len(admitted_us)):
        for last in range(first, len(admitted_us)):
            allowed = per_minute + (admitted_us[last] - admitted_us[first]) / customer.interval_us + given_back
            assert last - first + 1 <= allowed
