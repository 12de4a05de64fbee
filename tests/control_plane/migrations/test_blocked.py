"""A migration that cannot get its lock gives up, changes nothing, and lets traffic go on."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.config import Config

import control_plane.migrations
from control_plane.db import create_engine
from tests.conftest import outside
from tests.control_plane.own_servers import OwnServer, own_postgres

_MIGRATION = """
from alembic import op

revision = "blocked"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE TABLE made_before (id int)")
    op.execute("ALTER TABLE busy ADD COLUMN more int")
"""


@pytest.fixture
async def server() -> AsyncIterator[OwnServer]:
    """With one table that customers use."""
    async with own_postgres() as server:
        connection = await asyncpg.connect(server.url)
        await connection.execute("CREATE TABLE busy (id int); INSERT INTO busy VALUES (1)")
        await connection.close()
        yield server


def upgrade(url: str, folder: Path) -> None:
    """As `vlaapi migrate` does, with the product's own env.py and one migration of this test's."""
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.attributes["engine"] = create_engine(url, timeout_s=60)
    command.upgrade(config, "head")


async def test_a_blocked_migration_gives_up_and_leaves_traffic_alone(server: OwnServer, tmp_path: Path) -> None:
    shutil.copy(Path(control_plane.migrations.__file__).with_name("env.py"), tmp_path / "env.py")
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "blocked.py").write_text(_MIGRATION)
    customer, other = await asyncpg.connect(server.url), await asyncpg.connect(server.url)
    try:
        transaction = customer.transaction()
        await transaction.start()
        await customer.execute("UPDATE busy SET id = 2")  # a long transaction: the migration has to wait for it
        with pytest.raises(Exception, match="canceling statement due to lock timeout"):
            outside(lambda: upgrade(server.url, tmp_path))
        assert await other.fetchval("SELECT id FROM busy") == 1  # readers are served again, nobody queues behind it
        await transaction.commit()
        assert await other.fetchval("SELECT to_regclass('made_before')") is None  # all or nothing
        assert await other.fetchval("SELECT to_regclass('alembic_version')") is None
        outside(lambda: upgrade(server.url, tmp_path))  # and the next attempt succeeds
        assert await other.fetchval("SELECT more FROM busy") is None
    finally:
        await customer.close()
        await other.close()
