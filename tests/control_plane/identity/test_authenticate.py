"""Who may call, and what each store's absence changes about it."""

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from billing.tiers import Tier, tier_terms
from control_plane.errors import ApiError
from control_plane.identity import known_keys
from control_plane.identity.api_key import mint_key
from control_plane.identity.lookup import look_up
from control_plane.identity.principal import RateLimits
from tests.control_plane.eventually import eventually
from tests.control_plane.identity.conftest import PEPPER, AddedKey, AddKey, Observed, Observing
from tests.control_plane.relay import relay_to

NO_POSTGRES = "postgresql://u:p@127.0.0.1:1/d"
NO_REDIS = "redis://127.0.0.1:1/0"


class Listener:
    """A port that counts who knocks."""

    def __init__(self) -> None:
        self.connections = 0

    async def accept(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hangs up at once."""
        self.connections += 1
        writer.close()


async def test_a_key_says_who_calls(add_key: AddKey, observing: Observing) -> None:
    key = await add_key(company_name="Roboter GmbH", tier="enterprise", is_zero_retention=True)
    async with observing() as process:
        principal = await process.authenticator.authenticate(key.header)
    assert (principal.customer_id, principal.key_id) == (key.customer_id, key.id)
    assert (principal.company_name, principal.tier, principal.is_zero_retention) == ("Roboter GmbH", Tier.ENTERPRISE, True)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Api-Key", "API-KEY"])
async def test_both_schemes_are_accepted_in_any_case(add_key: AddKey, observing: Observing, scheme: str) -> None:
    key = await add_key()
    async with observing() as process:
        assert await process.code(f"{scheme}  {key.text} ") == "ok"


@pytest.mark.parametrize("header", [None, "", "   ", "Bearer", "Bearer  ", "Basic dXNlcjpwYXNz", mint_key()])
async def test_no_key_is_missing_key(observing: Observing, header: str | None) -> None:
    async with observing(postgres=NO_POSTGRES, redis=NO_REDIS) as process:
        with pytest.raises(ApiError) as refusal:
            await process.authenticator.authenticate(header)
    assert refusal.value.kind.code == "missing_key"
    assert refusal.value.headers == {"WWW-Authenticate": "Bearer"}


@pytest.mark.parametrize("key", ["x", "vla_live_", "sk-1234", mint_key()[:-1], mint_key() + "0", "vla_live_ä" + "0" * 32])
async def test_a_malformed_key_touches_no_store(observing: Observing, key: str) -> None:
    port = Listener()
    server = await asyncio.start_server(port.accept, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, observing(postgres=f"postgresql://u:p@{address}/d", redis=f"redis://{address}/0") as process:
        assert await process.code(f"Bearer {key}") == "malformed_key"
        assert port.connections == 0
        assert await process.code(f"Bearer {mint_key()}") == "store_unavailable"
        assert port.connections > 0  # the port does notice who looks


async def test_unknown_revoked_expired_and_inactive_are_told_apart(add_key: AddKey, observing: Observing) -> None:
    now = datetime.now(UTC)
    revoked = await add_key(revoked_at=now)
    expired = await add_key(expires_at=now - timedelta(seconds=1))
    inactive = await add_key(is_active=False)
    async with observing() as process:
        for _ in range(2):  # from the stores, then from the cache
            assert await process.code(f"Bearer {mint_key()}") == "unknown_key"
            assert await process.code(revoked.header) == "revoked_key"
            assert await process.code(expired.header) == "expired_key"
            assert await process.code(inactive.header) == "inactive_customer"


async def test_limits_are_the_tiers_unless_overridden(add_key: AddKey, observing: Observing) -> None:
    plain, special = await add_key(tier="free"), await add_key(tier="enterprise", per_minute=7, per_month=9)
    free, enterprise = tier_terms()[Tier.FREE], tier_terms()[Tier.ENTERPRISE]
    async with observing() as process:
        assert (await process.authenticator.authenticate(plain.header)).limits == RateLimits(
            per_minute=10, per_day=1000, per_month=10_000, concurrency=free.concurrency
        )
        assert (await process.authenticator.authenticate(special.header)).limits == RateLimits(
            per_minute=7, per_day=100_000, per_month=9, concurrency=enterprise.concurrency
        )


async def test_a_key_is_looked_up_once_and_then_remembered(add_key: AddKey, observing: Observing) -> None:
    key = await add_key()
    async with observing(cache_s=3600) as first, observing(cache_s=3600) as second:
        assert [await first.code(key.header) for _ in range(3)] == ["ok"] * 3
        assert [await second.code(key.header) for _ in range(3)] == ["ok"] * 3
        assert (first.count("postgres", "ok"), first.count("process", "ok")) == (1, 2)
        assert (second.count("redis", "ok"), second.count("process", "ok")) == (1, 2)
        assert (len(first.statements), len(second.statements)) == (1, 0)


async def test_what_redis_keeps_has_no_secret_and_ends_within_an_hour(
    add_key: AddKey, observing: Observing, redis: Redis
) -> None:
    key = await add_key(email="secret-address@example.com")
    async with observing() as process:
        assert await process.code(key.header) == "ok"
    names = await redis.keys("*")
    assert names
    for name in names:
        value = await redis.get(name)
        assert isinstance(name, bytes)
        assert isinstance(value, bytes)
        kept = name + value
        assert not any(secret in kept for secret in (key.text.encode(), key.text[9:20].encode(), PEPPER, b"secret-address"))
        assert 0 < await redis.ttl(name) <= 3600


async def test_a_broken_or_foreign_record_is_read_again(add_key: AddKey, observing: Observing, redis: Redis) -> None:
    key = await add_key()
    async with observing() as process:
        for data in (b"\x80\x04not msgpack", b"\x91\x02", b"\xc1"):
            await redis.set(b"vla:key:" + key.digest.hex().encode(), data)
            process.authenticator.forget([key.digest])
            assert await process.code(key.header) == "ok"
        assert process.count("postgres", "ok") == 3


async def test_a_cached_key_still_expires_on_time(add_key: AddKey, observing: Observing) -> None:
    key = await add_key(expires_at=datetime.now(UTC) + timedelta(seconds=1.5))
    async with observing(cache_s=3600) as process:
        assert await process.code(key.header) == "ok"

        async def is_expired() -> bool:
            return await process.code(key.header) == "expired_key"

        await eventually(is_expired)
        assert len(process.statements) == 1


async def test_many_at_once_for_one_key_are_one_lookup(add_key: AddKey, observing: Observing) -> None:
    key = await add_key()
    async with observing() as process:
        answers = await asyncio.gather(*(process.code(key.header) for _ in range(100)))
        assert answers == ["ok"] * 100
        assert len(process.statements) == 1


async def test_a_cancelled_request_does_not_cancel_the_lookup_of_others(add_key: AddKey, observing: Observing) -> None:
    key = await add_key()
    async with observing() as process:
        first, second = (asyncio.create_task(process.code(key.header)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == "ok"
        assert len(process.statements) == 1


async def test_a_wrong_key_in_a_loop_does_not_reach_the_stores(observing: Observing) -> None:
    header = f"Bearer {mint_key()}"
    async with observing() as process:
        began_s = time.monotonic()
        assert {await process.code(header) for _ in range(500)} == {"unknown_key"}
        assert len(process.statements) <= 1 + (time.monotonic() - began_s)  # one a second at most


async def test_a_key_created_after_it_was_refused_is_found_without_any_announcement(
    engine: AsyncEngine, add_key: AddKey, observing: Observing
) -> None:
    key = await add_key()
    async with observing(cache_s=3600) as process:
        await set_digest(engine, key, b"0" * 32)
        assert await process.code(key.header) == "unknown_key"
        await set_digest(engine, key, key.digest)
        await eventually(lambda: is_ok(process, key))


async def test_a_key_that_was_refused_before_it_was_announced_works_at_once(
    engine: AsyncEngine, add_key: AddKey, observing: Observing
) -> None:
    key = await add_key()
    async with observing(cache_s=3600) as process:
        await set_digest(engine, key, b"1" * 32)
        assert await process.code(key.header) == "unknown_key"
        await set_digest(engine, key, key.digest)
        process.authenticator.forget([key.digest])
        assert await process.code(key.header) == "ok"


async def set_digest(engine: AsyncEngine, key: AddedKey, digest: bytes) -> None:
    """Makes the key exist, or not exist yet."""
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE api_keys SET digest = :digest WHERE id = :id"), {"id": key.id, "digest": digest})


async def test_without_redis_postgres_and_the_cache_go_on(add_key: AddKey, observing: Observing) -> None:
    key = await add_key()
    async with observing(redis=NO_REDIS) as process:
        assert [await process.code(key.header) for _ in range(2)] == ["ok", "ok"]
        assert (process.count("postgres", "ok"), process.count("process", "ok")) == (1, 1)
        assert await process.code(f"Bearer {mint_key()}") == "unknown_key"


async def test_without_postgres_known_keys_go_on_and_others_are_unavailable(add_key: AddKey, observing: Observing) -> None:
    known, unseen = await add_key(), await add_key()
    async with observing(cache_s=0.001) as before:
        assert await before.code(known.header) == "ok"
    async with observing(postgres=NO_POSTGRES, cache_s=0.001) as process:
        assert await process.code(known.header) == "ok"
        assert process.count("redis_stale", "ok") == 1
        with pytest.raises(ApiError) as refusal:
            await process.authenticator.authenticate(unseen.header)
        assert (refusal.value.kind.code, refusal.value.kind.status) == ("store_unavailable", 503)
        assert refusal.value.headers["Retry-After"] == "1"


async def test_without_postgres_a_record_is_used_for_an_hour_and_no_longer(
    add_key: AddKey, observing: Observing, engine: AsyncEngine, redis: Redis
) -> None:
    key = await add_key()
    async with observing(postgres=NO_POSTGRES) as process:
        for age_s, code in ((3500, "ok"), (3601, "store_unavailable")):
            await remember_aged(engine, redis, key, age_s=age_s)
            process.authenticator.forget_all()
            assert await process.code(key.header) == code


async def test_a_refusal_is_remembered_as_well_while_postgres_is_away(add_key: AddKey, observing: Observing) -> None:
    key = await add_key(revoked_at=datetime.now(UTC))
    async with observing() as before:
        assert await before.code(key.header) == "revoked_key"
    async with observing(postgres=NO_POSTGRES, cache_s=0.001) as process:
        assert await process.code(key.header) == "revoked_key"


async def test_without_both_only_the_cache_goes_on_and_not_for_longer_than_it_may(
    add_key: AddKey, observing: Observing, postgres_url: str, clean_redis_url: str
) -> None:
    key = await add_key()
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(relay_to(postgres_url))
        redis = await stack.enter_async_context(relay_to(clean_redis_url))
        process = await stack.enter_async_context(observing(postgres=postgres.url, redis=redis.url, cache_s=2))
        assert await process.code(key.header) == "ok"
        postgres.cut()
        redis.cut()
        codes: set[str] = set()

        async def is_over() -> bool:
            codes.add(await process.code(key.header))
            return "store_unavailable" in codes

        await eventually(is_over)
        assert codes <= {"ok", "store_unavailable"}
        assert process.count("postgres", "ok") == 1
        await postgres.mend()
        await eventually(lambda: is_ok(process, key))


async def is_ok(process: Observed, key: AddedKey) -> bool:
    """Whether the key works."""
    return await process.code(key.header) == "ok"


async def test_a_clogged_database_delays_nobody_whose_key_is_in_use(
    add_key: AddKey, observing: Observing, postgres_url: str, engine: AsyncEngine, redis: Redis
) -> None:
    key = await add_key()
    await remember_aged(engine, redis, key, age_s=60)  # past the time to look again, not past being believed
    async with relay_to(postgres_url) as postgres, observing(postgres=postgres.url, cache_s=100, timeout_s=5) as process:
        postgres.clog()
        assert [await process.code(key.header) for _ in range(50)] == ["ok"] * 50
        assert (process.count("redis", "ok"), process.count("process", "ok")) == (1, 49)
        await postgres.mend()


async def test_a_key_in_use_is_looked_up_again_before_it_must_be(
    add_key: AddKey, observing: Observing, engine: AsyncEngine, redis: Redis
) -> None:
    key = await add_key()
    await remember_aged(engine, redis, key, age_s=60)
    async with observing(cache_s=100) as process:
        assert [await process.code(key.header) for _ in range(10)] == ["ok"] * 10

        async def has_looked() -> bool:
            record = await known_keys.recall(redis, key.digest)
            return record is not None and time.time() - record.read_at_s < 50

        await eventually(has_looked)
        assert [await process.code(key.header) for _ in range(10)] == ["ok"] * 10
        assert len(process.statements) == 1
        assert (process.count("redis", "ok"), process.count("process", "ok")) == (1, 19)


async def test_what_was_being_looked_up_while_the_key_changed_is_not_kept(
    add_key: AddKey, observing: Observing, engine: AsyncEngine
) -> None:
    key = await add_key()
    async with observing(cache_s=3600) as process:
        async with engine.begin() as connection:
            await connection.execute(text("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE"))
            asking = asyncio.create_task(process.code(key.header))
            await eventually(lambda: is_waiting_for_lock(engine))
            process.authenticator.forget([key.digest])
        assert await asking == "ok"
        assert await process.code(key.header) == "ok"
        assert process.count("process", "ok") == 0


async def is_waiting_for_lock(engine: AsyncEngine) -> bool:
    """Whether someone waits for the table of keys."""
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'api_keys'::regclass"
    async with engine.connect() as connection:
        return bool((await connection.execute(text(query))).scalar_one())


async def test_a_slow_lookup_cannot_put_an_old_record_back_after_an_announcement(
    add_key: AddKey, engine: AsyncEngine, redis: Redis
) -> None:
    key = await add_key()
    before_the_change = await look_up(engine, key.digest)
    assert before_the_change is not None
    await known_keys.remember(redis, key.digest, before_the_change)
    assert await known_keys.recall(redis, key.digest) == before_the_change
    await known_keys.announce(redis, [key.digest])
    await known_keys.remember(redis, key.digest, before_the_change)
    assert await known_keys.recall(redis, key.digest) is None
    assert 0 < await redis.ttl(b"vla:key:" + key.digest.hex().encode()) <= 30


async def remember_aged(engine: AsyncEngine, redis: Redis, key: AddedKey, *, age_s: float) -> None:
    """Leaves in Redis what a process read from PostgreSQL `age_s` ago."""
    record = await look_up(engine, key.digest)
    assert record is not None
    await known_keys.remember(redis, key.digest, msgspec.structs.replace(record, read_at_s=time.time() - age_s))
