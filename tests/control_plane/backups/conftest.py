"""A database with a closed month, an invoice and a ledger in it, the real store, and the programs of the embedded PostgreSQL."""

import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from control_plane.backups.dump import Source
from control_plane.backups.places import beside
from control_plane.backups.sealing import key_id
from control_plane.backups.store import Vault
from control_plane.db import create_engine
from control_plane.objects import create_objects
from deploy.embedded.binaries import program
from tests.control_plane.fake_objects import FakeObjects
from tests.control_plane.invoices.making import a_customer, close, request_at
from tests.control_plane.usage.conftest import lines, log, metrics

__all__ = ["lines", "log", "metrics"]

KEY = b"a backup key that only these tests know, of some length"
OWNER = key_id(KEY)
MONTH = (datetime.now(UTC).date().replace(day=1) - timedelta(days=1)).replace(day=1)


@pytest.fixture
def programs() -> Path:
    """pg_dump, pg_restore and the others."""
    return program("postgres", override=None, setting="VLA_POSTGRES_BIN")


@pytest.fixture
async def business(database_url: str) -> str:
    """The address of a database in which somebody was billed."""
    connection = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    engine = create_engine(database_url, timeout_s=60.0)
    try:
        start = datetime(MONTH.year, MONTH.month, 1, tzinfo=UTC)
        acme = await a_customer(connection, tier="enterprise", created_at=start, company_name="Acme Robotics")
        await request_at(connection, acme, *(start + timedelta(hours=hour) for hour in range(60)))
        await close(engine, MONTH)
    finally:
        await engine.dispose()
        await connection.close()
    return database_url


@pytest.fixture
async def empty_url(database_url: str) -> AsyncIterator[str]:
    """An empty database on the same server."""
    name = f"empty_{secrets.token_hex(6)}"
    yield await beside(database_url, name)
    connection = await asyncpg.connect(database_url)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
def source(business: str, programs: Path) -> Source:
    """What is backed up."""
    return Source(database_url=business, programs=programs)


@pytest.fixture
async def vault(objects_url: str) -> AsyncIterator[Vault]:
    """The real store."""
    objects = create_objects(objects_url)
    yield Vault(objects=objects, key=KEY)
    await objects.aclose()


@pytest.fixture
def fake() -> FakeObjects:
    """A store that does what the test says."""
    return FakeObjects()
