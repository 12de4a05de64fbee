"""When a key was last used: to the minute, beside the requests, whatever is away."""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import create_engine
from control_plane.identity.last_used import LastUsed
from control_plane.keys.tables import api_keys
from tests.control_plane.eventually import eventually
from tests.control_plane.identity.conftest import AddKey, Observing

NOON_S = datetime(2026, 11, 27, 12, tzinfo=UTC).timestamp()


async def stored(engine: AsyncEngine, key_id: UUID) -> float | None:
    """What the row says, as Unix time."""
    async with engine.connect() as connection:
        at = await connection.scalar(select(api_keys.c.last_used_at).where(api_keys.c.id == key_id))
    return None if at is None else at.timestamp()


async def test_a_use_is_written_at_most_once_a_minute_by_all_processes_together(engine: AsyncEngine, add_key: AddKey) -> None:
    key = await add_key()
    processes = [LastUsed(engine=engine) for _ in range(2)]
    for second, said in ((0, 0), (20, 0), (59, 0), (60, 60), (90, 60), (121, 121)):
        for process in processes:
            process.note(key.id, NOON_S + second)
            await process.write()
        assert await stored(engine, key.id) == NOON_S + said


async def test_a_request_is_noted_and_a_refused_one_is_not(engine: AsyncEngine, add_key: AddKey, observing: Observing) -> None:
    good, expired = await add_key(), await add_key(expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    async with observing() as process:
        assert [await process.code(key.header) for key in (good, expired)] == ["ok", "expired_key"]
        await process.authenticator.last_used.write()
    assert await stored(engine, good.id) is not None
    assert await stored(engine, expired.id) is None


async def test_it_is_written_without_redis(engine: AsyncEngine, add_key: AddKey, observing: Observing) -> None:
    key = await add_key()
    async with observing(redis="redis://127.0.0.1:1/0") as process:
        assert await process.code(key.header) == "ok"
        await process.authenticator.last_used.write()
    assert await stored(engine, key.id) is not None


async def test_while_postgres_is_away_notes_wait(engine: AsyncEngine, add_key: AddKey) -> None:
    key = await add_key()
    away = create_engine("postgresql://nobody:x@127.0.0.1:1/none", timeout_s=0.5)
    process = LastUsed(engine=away)
    process.note(key.id, NOON_S)
    await process.write()
    await away.dispose()
    process._engine = engine
    await process.write()
    assert await stored(engine, key.id) == NOON_S


async def test_it_is_written_in_the_background_and_when_the_process_stops(engine: AsyncEngine, add_key: AddKey) -> None:
    first, last = await add_key(), await add_key()
    process = LastUsed(engine=engine, every_s=0.05)
    process.start()
    process.note(first.id, NOON_S)

    async def is_written() -> bool:
        return await stored(engine, first.id) == NOON_S

    await eventually(is_written)
    process._every_s = 3600
    process.note(last.id, NOON_S)
    await process.stop()
    assert await stored(engine, last.id) == NOON_S
