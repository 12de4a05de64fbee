"""Spend caps in the limiter's scripts: held against a model, exact under concurrency, begun anew after Redis lost its memory."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import force_setattr
from redis.asyncio import Redis

from billing.tiers import Tier
from control_plane.db import DatabaseAwayError
from control_plane.errors import ApiError
from control_plane.identity.principal import Principal
from control_plane.limits.admission import Admission
from control_plane.limits.limiter import Limiter, forget_spending
from control_plane.limits.spend import Spending
from control_plane.metrics import Metrics
from control_plane.redis import create_redis
from tests.control_plane.eventually import eventually
from tests.control_plane.limits.conftest import a_lease, a_principal, give_back, settle

ON_REDIS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass(kw_only=True)
class Books:
    """What the stores say is billable, beside what is in flight there."""

    billable: int = 0
    ids: set[bytes] = field(default_factory=set)  # of those
    is_away: bool = False
    asked: int = 0

    async def __call__(self, customer_id: UUID, month: int, leases: Sequence[bytes]) -> int:  # noqa: ARG002 -- the seam's
        self.asked += 1
        if self.is_away:
            raise DatabaseAwayError("away")
        await asyncio.sleep(0)
        return self.billable + len(set(leases) - self.ids)

    def enter(self, lease: str) -> None:
        """An answer was journalled."""
        self.billable += 1
        self.ids.add(lease.encode())


@pytest.fixture
def books() -> Books:
    """Empty."""
    return Books()


@pytest.fixture
async def limiter(redis: Redis, metrics: Metrics, books: Books) -> Limiter:
    """Over a Redis that has been there for a while."""
    await seasoned(redis)
    return Limiter(redis=redis, processes=2, metrics=metrics, spending=Spending(count=books, metrics=metrics))


async def seasoned(redis: Redis) -> None:
    """A count is begun only with a server that the others have had the time to notice."""

    async def is_so() -> bool:
        return int((await redis.info("server"))["uptime_in_seconds"]) >= 5

    await eventually(is_so)


def capped(most: int, *, tier: Tier = Tier.ENTERPRISE) -> Principal:
    """A customer whose cap leaves room for so many requests."""
    return replace(a_principal(tier=tier), most_billable=most)


async def admitted(limiter: Limiter, principal: Principal, lease: str | None = None) -> Admission | str:
    """The admission, or the code of the refusal."""
    try:
        return await limiter.admit(principal, lease or a_lease(), 60_000)
    except ApiError as refusal:
        return refusal.kind.code


async def unbilled(redis: Redis, admission: Admission) -> None:
    """Ends it without an answer that is billed."""
    pipeline = redis.pipeline(transaction=False)
    admission.settle_unbilled_into(pipeline)
    await pipeline.execute()


async def test_parallel_clients_get_exactly_what_the_cap_leaves_room_for(limiter: Limiter, books: Books) -> None:
    books.billable = 12
    answers = await asyncio.gather(*(admitted(limiter, principal) for principal in [capped(50)] * 64))
    assert sum(isinstance(answer, Admission) for answer in answers) == 38
    assert {answer for answer in answers if isinstance(answer, str)} == {"spend_limit"}
    assert books.asked == 1


async def in_flight() -> list[bytes]:
    return []


async def test_who_hears_late_that_a_count_is_wanted_begins_with_the_one_that_was_made(metrics: Metrics, books: Books) -> None:
    spending, customer = Spending(count=books, metrics=metrics), a_principal().customer_id
    async with spending.begin(customer, 1, b"run", in_flight) as first:
        books.billable = 7
        async with spending.begin(customer, 1, b"run", in_flight) as late:
            assert late == first
    async with spending.begin(customer, 1, b"run", in_flight) as anew:
        assert anew.used == 7
    assert books.asked == 2


async def test_a_count_that_nobody_waited_for_is_not_kept(metrics: Metrics, books: Books) -> None:
    spending, customer = Spending(count=books, metrics=metrics), a_principal().customer_id

    async def begin() -> int:
        async with spending.begin(customer, 1, b"run", in_flight) as begun:
            return begun.used

    given_up = asyncio.create_task(begin())
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    books.billable = 7
    assert await begin() == 7


async def test_the_refusal_says_stop_until_the_month_ends(limiter: Limiter, redis: Redis) -> None:
    principal = capped(1)
    first = await limiter.admit(principal, a_lease(), 60_000)
    assert '"spend";q=1;w=' in first.headers()["RateLimit-Policy"]
    assert '"spend";r=0;t=' in first.headers()["RateLimit"]
    with pytest.raises(ApiError) as refused:
        await limiter.admit(principal, a_lease(), 60_000)
    kind, headers = refused.value.kind, refused.value.headers
    assert (kind.code, kind.status, kind.robot_action, kind.is_retryable) == ("spend_limit", 429, "stop", False)
    ends_in_s = await redis.pexpiretime(f"vla:limits:{{{principal.customer_id.hex}}}") / 1000 - 120 - (await redis.time())[0]
    assert abs(int(headers["Retry-After"]) - ends_in_s) < 30


async def test_a_refusal_by_the_cap_counts_nothing_and_other_limits_count_no_spending(limiter: Limiter, redis: Redis) -> None:
    principal = replace(capped(2), limits=replace(capped(2).limits, per_minute=3))
    name = f"vla:limits:{{{principal.customer_id.hex}}}"
    codes = [await admitted(limiter, principal) for _ in range(5)]
    assert codes[2:] == ["spend_limit"] * 3
    assert await redis.hmget(name, "day_used", "month_used", "spend_used") == [b"2", b"2", b"2"]
    slow = replace(capped(9), limits=replace(principal.limits, per_minute=1))
    codes = [await admitted(limiter, slow) for _ in range(3)]
    assert codes[1:] == ["minute_limit"] * 2
    assert await redis.hget(f"vla:limits:{{{slow.customer_id.hex}}}", "spend_used") == b"1"


@ON_REDIS
@given(
    most=st.integers(0, 5),
    steps=st.lists(
        st.sampled_from(["ask", "ask", "ask", "bill", "unbilled", "give back", "twice", "lose leases", "forget", "restart"]),
        max_size=30,
    ),
)
async def test_it_decides_as_the_model_does(limiter: Limiter, redis: Redis, books: Books, most: int, steps: list[str]) -> None:
    """The model: what is billed, and who is in flight. Neither too many nor too few are let in."""
    principal = capped(most)
    books.billable, books.ids = 0, set()
    counters, leases = f"vla:limits:{{{principal.customer_id.hex}}}", f"vla:leases:{{{principal.customer_id.hex}}}"
    flying: dict[str, Admission] = {}
    for step in steps:
        lease = next(iter(flying), "")
        if step == "ask":
            answer = await admitted(limiter, principal, new := a_lease())
            room = most - books.billable - len(flying)
            assert isinstance(answer, Admission) == (room > 0)
            if isinstance(answer, Admission):
                flying[new] = answer
        elif step == "lose leases":
            await redis.delete(counters, leases)
            flying_before, flying = flying, {}
            for lost, admission in flying_before.items():  # they end before anybody counts anew: the journal has them
                books.enter(lost)
                await settle(redis, admission)
        elif step == "forget":
            await forget_spending(redis, principal.customer_id)
        elif step == "restart":  # of a server that kept everything
            if await redis.hexists(counters, "spend_run"):
                await redis.hset(counters, "spend_run", "another")
        elif lease:
            admission = flying.pop(lease)
            if step == "bill":
                books.enter(lease)
                await settle(redis, admission)
            else:
                end = give_back if step == "give back" else unbilled
                await end(redis, admission)
                if step == "twice":
                    await unbilled(redis, admission)
                    await give_back(redis, admission)
    assert books.billable + len(flying) <= most


async def test_one_in_flight_across_a_redis_that_lost_everything_is_counted_when_it_is_billed(
    limiter: Limiter, redis: Redis, books: Books
) -> None:
    principal = capped(3)
    flying = await limiter.admit(principal, "flying", 60_000)
    counters = f"vla:limits:{{{principal.customer_id.hex}}}"
    await redis.delete(counters, f"vla:leases:{{{principal.customer_id.hex}}}")
    force_setattr(flying.lease, "settle", (*flying.lease.settle[:3], b"the process before"))  # type: ignore[arg-type,attr-defined]
    assert isinstance(await admitted(limiter, principal), Admission)  # begun anew, without the one in flight
    books.enter("flying")
    await settle(redis, flying)
    assert await redis.hget(counters, "spend_used") == b"2"
    assert [isinstance(await admitted(limiter, principal), Admission) for _ in range(2)] == [True, False]


async def test_last_months_count_is_not_this_months(limiter: Limiter, redis: Redis, books: Books) -> None:
    principal = capped(2)
    assert isinstance(await admitted(limiter, principal), Admission)
    counters = f"vla:limits:{{{principal.customer_id.hex}}}"
    month = int(await redis.hget(counters, "spend_month") or 0)
    await redis.hset(counters, mapping={"spend_month": month - 1, "spend_used": 2})
    assert isinstance(await admitted(limiter, principal), Admission)
    assert books.asked == 2


async def test_without_postgres_to_count_with_nobody_with_a_cap_is_let_in(
    limiter: Limiter, books: Books, metrics: Metrics
) -> None:
    books.is_away = True
    with pytest.raises(ApiError) as refused:
        await limiter.admit(capped(5), a_lease(), 60_000)
    assert (refused.value.kind.code, refused.value.kind.status) == ("spend_unknown", 503)
    assert metrics.registry.get_sample_value("vla_spend_counts_total", {"outcome": "unknown"}) == 1
    books.is_away = False
    assert isinstance(await admitted(limiter, capped(5)), Admission)


async def test_without_redis_a_customer_with_a_cap_is_refused_and_others_get_their_share(metrics: Metrics) -> None:
    nowhere = create_redis("redis://127.0.0.1:1/0", timeout_s=5, pause_s=0)
    limiter = Limiter(redis=nowhere, processes=2, metrics=metrics, spending=Spending(count=Books(), metrics=metrics))
    assert await admitted(limiter, capped(5)) == "spend_unknown"
    assert isinstance(await admitted(limiter, a_principal()), Admission)
    await nowhere.aclose()


async def test_a_customer_without_a_cap_is_counted_nowhere(limiter: Limiter, redis: Redis, books: Books) -> None:
    principal = a_principal(tier=Tier.ENTERPRISE)
    assert isinstance(await admitted(limiter, principal), Admission)
    assert b"spend_used" not in await redis.hgetall(f"vla:limits:{{{principal.customer_id.hex}}}")
    assert books.asked == 0
