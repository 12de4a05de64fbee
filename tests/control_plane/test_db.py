"""The PostgreSQL engine: UTC, bounded waits, and one error for every way of being away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import DatabaseAwayError, create_engine, database_errors
from tests.control_plane.eventually import eventually
from tests.control_plane.own_servers import own_postgres


@asynccontextmanager
async def engine_of(url: str, *, pool_size: int = 5, timeout_s: float = 10.0) -> AsyncIterator[AsyncEngine]:
    """An engine, disposed of afterwards."""
    engine = create_engine(url, pool_size=pool_size, timeout_s=timeout_s)
    try:
        yield engine
    finally:
        await engine.dispose()


async def ask(engine: AsyncEngine, statement: str = "SELECT 1") -> object:
    """One statement under the border's translation."""
    with database_errors():
        async with engine.connect() as connection:
            return (await connection.execute(text(statement))).scalar_one()


async def test_sessions_are_in_utc(postgres_url: str) -> None:
    async with engine_of(postgres_url) as engine:
        assert await ask(engine, "SHOW timezone") == "UTC"


async def test_a_refused_connection_is_database_away() -> None:
    async with engine_of("postgresql://u:p@127.0.0.1:1/d") as engine:
        with pytest.raises(DatabaseAwayError):
            await ask(engine)


async def test_a_full_pool_is_database_away(postgres_url: str) -> None:
    async with engine_of(postgres_url, pool_size=1, timeout_s=1) as engine, engine.connect():
        with pytest.raises(DatabaseAwayError):
            await ask(engine)


async def test_a_statement_that_takes_too_long_is_database_away(postgres_url: str) -> None:
    async with engine_of(postgres_url, timeout_s=1) as engine:
        with pytest.raises(DatabaseAwayError):
            await ask(engine, "SELECT pg_sleep(30)")


async def test_a_backend_that_is_terminated_meanwhile_is_database_away(postgres_url: str) -> None:
    async with engine_of(postgres_url) as engine, engine_of(postgres_url) as other:
        waiting = asyncio.create_task(ask(engine, "SELECT pg_sleep(60)"))
        kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%'"
        await eventually(lambda: ask(other, kill))
        with pytest.raises(DatabaseAwayError):
            await waiting


async def test_a_killed_database_is_used_again_after_its_restart() -> None:
    async with own_postgres() as server, engine_of(server.url) as engine:
        assert await ask(engine) == 1
        server.kill()
        with pytest.raises(DatabaseAwayError):
            await ask(engine)
        await server.start()
        assert await ask(engine) == 1


async def test_our_own_mistakes_are_not_taken_for_an_absent_database(postgres_url: str) -> None:
    async with engine_of(postgres_url) as engine:
        with pytest.raises(ProgrammingError):
            await ask(engine, "SELECT * FROM no_such_table")
