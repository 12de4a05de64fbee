"""The limiter as the pipeline uses it: exact under concurrency, honest headers, and what it does without Redis."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from billing.tiers import Tier
from control_plane.errors import ApiError
from control_plane.identity.principal import Principal
from control_plane.limits.limiter import Limiter
from control_plane.metrics import Metrics
from control_plane.redis import create_redis
from tests.control_plane.eventually import eventually
from tests.control_plane.limits.conftest import a_lease, a_principal, give_back, settle
from tests.control_plane.own_servers import own_valkey
from tests.control_plane.relay import relay_to

NO_REDIS = "redis://127.0.0.1:1/0"


async def code(limiter: Limiter, principal: Principal) -> str:
    """How one request ends: "ok", or the error's code. Its place stays taken."""
    try:
        await limiter.admit(principal, a_lease(), 60_000)
    except ApiError as refusal:
        return refusal.kind.code
    return "ok"


async def refusal(limiter: Limiter, principal: Principal) -> ApiError:
    """The error of a request that must be refused."""
    with pytest.raises(ApiError) as caught:
        await limiter.admit(principal, a_lease(), 60_000)
    return caught.value


@asynccontextmanager
async def client(url: str, *, timeout_s: float = 5, pause_s: float = 0) -> AsyncIterator[Redis]:
    """A client, closed afterwards."""
    redis = create_redis(url, timeout_s=timeout_s, pause_s=pause_s)
    try:
        yield redis
    finally:
        await redis.aclose()


@pytest.mark.parametrize("tier", [Tier.FREE, Tier.PRO])
async def test_a_burst_of_parallel_clients_gets_exactly_the_minute(limiter: Limiter, tier: Tier) -> None:
    principal = a_principal(tier=tier)
    limit = principal.limits.per_minute
    began_s = time.monotonic()
    codes = await asyncio.gather(*(code(limiter, principal) for _ in range(max(64, 2 * limit))))
    refilled = (time.monotonic() - began_s) / (60 / limit)  # nothing, unless this machine took seconds for it
    assert limit <= codes.count("ok") <= limit + refilled
    assert set(codes) == {"ok", "minute_limit"}


async def test_all_keys_of_a_customer_share_the_limits(limiter: Limiter) -> None:
    one = a_principal(per_minute=3)
    other = a_principal()
    other = Principal(**{name: getattr(one, name) for name in one.__slots__} | {"key_id": other.key_id})
    assert [await code(limiter, key) for key in (one, other, one, other)] == ["ok", "ok", "ok", "minute_limit"]


async def test_customers_do_not_share(limiter: Limiter) -> None:
    one, other = a_principal(per_minute=1), a_principal(per_minute=1)
    assert [await code(limiter, who) for who in (one, other, one)] == ["ok", "ok", "minute_limit"]


async def test_a_key_may_carry_a_lower_cap_of_its_own(limiter: Limiter) -> None:
    capped = a_principal(per_minute=100, key_per_minute=2)
    free = Principal(
        **{name: getattr(capped, name) for name in capped.__slots__} | {"key_id": a_principal().key_id, "key_per_minute": None}
    )
    assert [await code(limiter, capped) for _ in range(3)] == ["ok", "ok", "minute_limit"]
    assert await code(limiter, free) == "ok"
    refused = await refusal(limiter, capped)
    assert refused.headers["RateLimit-Policy"].startswith('"minute";q=100;w=60, "key-minute";q=2;w=60')
    assert refused.headers["X-RateLimit-Limit-Requests"] == "2"
    assert refused.headers["X-RateLimit-Remaining-Requests"] == "0"


async def test_an_admission_says_what_is_left(limiter: Limiter) -> None:
    principal = a_principal(tier=Tier.PRO)
    first, second = [await limiter.admit(principal, a_lease(), 60_000) for _ in range(2)]
    assert (first.remaining_minute, first.remaining_day, first.remaining_month) == (99, 9_999, 99_999)
    assert (second.remaining_minute, second.remaining_day, second.remaining_month) == (98, 9_998, 99_998)
    assert second.limits == principal.limits


async def test_an_unlimited_month_is_not_given_a_number(limiter: Limiter) -> None:
    admission = await limiter.admit(a_principal(tier=Tier.ENTERPRISE), a_lease(), 60_000)
    assert admission.remaining_month is None
    assert "month" not in admission.headers()["RateLimit-Policy"] + admission.headers()["RateLimit"]


async def test_a_refusal_says_when_to_come_back(limiter: Limiter) -> None:
    principal = a_principal(tier=Tier.FREE)
    for _ in range(10):
        assert await code(limiter, principal) == "ok"
    refused = await refusal(limiter, principal)
    assert (refused.kind.code, refused.kind.status) == ("minute_limit", 429)
    assert refused.retry_after_ms is not None
    assert 0 < refused.retry_after_ms <= 6_000
    assert refused.headers["Retry-After"] == str(-(-refused.retry_after_ms // 1000))
    assert f'"minute";r=0;t={refused.headers["Retry-After"]}' in refused.headers["RateLimit"]


async def test_a_spent_day_ends_at_midnight_utc(limiter: Limiter, redis: Redis) -> None:
    principal = a_principal(per_day=1)
    await settle(redis, await limiter.admit(principal, a_lease(), 60_000))
    now_s = int((await redis.time())[0])
    refused = await refusal(limiter, principal)
    assert refused.kind.code == "day_limit"
    until_midnight_s = 86_400 - now_s % 86_400
    assert until_midnight_s - 60 <= int(refused.headers["Retry-After"]) <= until_midnight_s


async def test_places_are_freed_by_settling_and_by_giving_back(limiter: Limiter, redis: Redis) -> None:
    principal = a_principal(concurrency=2)
    first, second = [await limiter.admit(principal, a_lease(), 60_000) for _ in range(2)]
    refused = await refusal(limiter, principal)
    assert (refused.kind.code, refused.headers["Retry-After"], refused.retry_after_ms) == ("concurrency_limit", "1", 1000)
    await settle(redis, first)
    assert await code(limiter, principal) == "ok"
    await give_back(redis, second)
    assert await code(limiter, principal) == "ok"
    assert await code(limiter, principal) == "concurrency_limit"


async def test_what_failed_by_our_fault_is_given_back_once(limiter: Limiter, redis: Redis) -> None:
    principal = a_principal(tier=Tier.FREE, key_per_minute=10)
    admissions = [await limiter.admit(principal, a_lease(), 60_000) for _ in range(10)]
    await give_back(redis, admissions[4])
    await give_back(redis, admissions[4])
    await settle(redis, admissions[5])
    await give_back(redis, admissions[5])
    again = await limiter.admit(principal, a_lease(), 60_000)
    assert (again.remaining_minute, again.remaining_day, again.remaining_month) == (0, 990, 9_990)
    assert await code(limiter, principal) == "minute_limit"


async def test_a_request_without_a_usage_event_counts_in_the_minute_only(limiter: Limiter, redis: Redis) -> None:
    principal = a_principal(tier=Tier.FREE, key_per_minute=10)
    admissions = [await limiter.admit(principal, a_lease(), 60_000) for _ in range(9)]
    pipeline = redis.pipeline(transaction=False)
    admissions[4].settle_minute_into(pipeline)
    admissions[4].settle_minute_into(pipeline)  # once, however often it is sent
    await pipeline.execute()
    last = await limiter.admit(principal, a_lease(), 60_000)
    assert (last.remaining_minute, last.remaining_day, last.remaining_month) == (0, 991, 9_991)
    assert await code(limiter, principal) == "minute_limit"


async def test_a_redis_that_forgot_the_script_is_told_again(limiter: Limiter, redis: Redis) -> None:
    principal = a_principal()
    await limiter.admit(principal, a_lease(), 60_000)
    await redis.script_flush()
    admission = await limiter.admit(principal, a_lease(), 60_000)
    assert admission.remaining_day == 9_998
    assert await redis.script_exists(limiter._admit_sha) == [True]


async def test_all_keys_of_one_customer_live_on_one_node_and_end_by_themselves(limiter: Limiter, redis: Redis) -> None:
    principal = a_principal(key_per_minute=5)
    await limiter.admit(principal, a_lease(), 60_000)
    names = await redis.keys("vla:*")
    assert len(names) == 3
    slots: list[Any] = [await redis.execute_command("CLUSTER KEYSLOT", name) for name in names]  # type: ignore[no-untyped-call]
    assert len(set(slots)) == 1
    assert all([await redis.pttl(name) > 0 for name in names])


async def test_without_redis_each_process_admits_its_share_and_says_so(metrics: Metrics) -> None:
    async with client(NO_REDIS) as nowhere:
        limiter = Limiter(redis=nowhere, processes=4, metrics=metrics)
        principal = a_principal(tier=Tier.FREE)
        codes = [await code(limiter, principal) for _ in range(5)]
    assert codes == ["ok", "ok", "minute_limit", "minute_limit", "minute_limit"]
    count = metrics.registry.get_sample_value
    assert [count("vla_limiter_fallback_total", {"outcome": how}) for how in ("admitted", "refused")] == [2, 3]


async def test_without_redis_everyone_may_send_at_least_one_and_a_key_keeps_its_cap(metrics: Metrics) -> None:
    async with client(NO_REDIS) as nowhere:
        limiter = Limiter(redis=nowhere, processes=50, metrics=metrics)
        small, capped = a_principal(tier=Tier.FREE), a_principal(tier=Tier.ENTERPRISE, key_per_minute=100)
        assert [await code(limiter, small) for _ in range(2)] == ["ok", "minute_limit"]
        assert [await code(limiter, capped) for _ in range(3)] == ["ok", "ok", "minute_limit"]


async def test_without_redis_the_headers_say_only_what_is_known(metrics: Metrics) -> None:
    async with client(NO_REDIS) as nowhere:
        limiter = Limiter(redis=nowhere, processes=2, metrics=metrics)
        admission = await limiter.admit(a_principal(tier=Tier.PRO), a_lease(), 60_000)
    assert (admission.remaining_minute, admission.remaining_day, admission.remaining_month) == (49, None, None)
    assert admission.headers()["RateLimit-Policy"] == '"minute";q=50;w=60'


async def test_an_admission_of_the_share_ends_without_redis(metrics: Metrics, redis: Redis) -> None:
    async with client(NO_REDIS) as nowhere:
        limiter = Limiter(redis=nowhere, processes=1, metrics=metrics)
        principal = a_principal(per_minute=2)
        first, second = [await limiter.admit(principal, a_lease(), 60_000) for _ in range(2)]
        await settle(redis, first)
        assert await code(limiter, principal) == "minute_limit"
        await give_back(redis, second)
        await give_back(redis, second)
        assert [await code(limiter, principal) for _ in range(2)] == ["ok", "minute_limit"]
    assert await redis.keys("vla:*") == []


async def test_a_killed_redis_changes_the_limit_to_the_share_and_back(metrics: Metrics) -> None:
    async with own_valkey() as server, client(server.url) as redis:
        limiter = Limiter(redis=redis, processes=5, metrics=metrics)
        principal = a_principal(tier=Tier.FREE)
        assert (await limiter.admit(principal, a_lease(), 60_000)).remaining_day == 999
        server.kill()
        assert [await code(limiter, principal) for _ in range(3)] == ["ok", "ok", "minute_limit"]
        await server.start()
        # The append-only file kept the first; what the share admitted is not in it.
        assert (await limiter.admit(principal, a_lease(), 60_000)).remaining_day == 998


async def test_a_hanging_redis_is_not_waited_for_by_every_request(redis_url: str, metrics: Metrics) -> None:
    async with relay_to(redis_url) as relay, client(relay.url, timeout_s=0.3, pause_s=0.3) as redis:
        limiter = Limiter(redis=redis, processes=1, metrics=metrics)
        principal = a_principal(tier=Tier.ENTERPRISE)
        assert (await limiter.admit(principal, a_lease(), 60_000)).remaining_day is not None
        relay.clog()
        began_s = time.monotonic()
        for _ in range(200):
            assert (await limiter.admit(principal, a_lease(), 60_000)).remaining_day is None
        waits = (time.monotonic() - began_s) / 0.3
        assert waits < 100  # each of them waiting would have been 200 time-outs
        await relay.mend()

        async def is_back() -> bool:
            return (await limiter.admit(principal, a_lease(), 60_000)).remaining_day is not None

        await eventually(is_back)


async def test_a_full_redis_still_counts(metrics: Metrics) -> None:
    async with own_valkey() as server, client(server.url) as redis:
        limiter = Limiter(redis=redis, processes=1, metrics=metrics)
        await redis.config_set("maxmemory", 1)
        # The script's first write removes leases that have ended; a script that has begun may go on when memory is short.
        assert (await limiter.admit(a_principal(tier=Tier.PRO), a_lease(), 60_000)).remaining_day == 9_999


async def test_a_redis_that_refuses_writes_is_treated_as_away(metrics: Metrics) -> None:
    async with own_valkey() as server, client(server.url) as redis:
        limiter = Limiter(redis=redis, processes=1, metrics=metrics)
        await redis.replicaof("127.0.0.1", "1")
        assert (await limiter.admit(a_principal(), a_lease(), 60_000)).remaining_day is None
