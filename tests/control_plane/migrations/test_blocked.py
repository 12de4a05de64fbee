"""A migration that cannot get its lock gives up, changes nothing, and lets traffic go on."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.config import Config

import control_plane.migrations
from control_plane.db import SchemaBusyError, create_engine
from control_plane.migrations import lock_timeouts
from tests.conftest import outside
from tests.control_plane.own_servers import OwnServer, own_postgres
from tests.control_plane.test_cli import inherited, vlaapi

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
    with lock_timeouts(url):
        command.upgrade(config, "head")


async def test_a_blocked_migration_gives_up_and_leaves_traffic_alone(server: OwnServer, tmp_path: Path) -> None:
    shutil.copy(Path(control_plane.migrations.__file__).with_name("env.py"), tmp_path / "env.py")
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "blocked.py").write_text(_MIGRATION)
    name = {"application_name": "a long report"}
    customer, other = await asyncpg.connect(server.url, server_settings=name), await asyncpg.connect(server.url)
    try:
        transaction = customer.transaction()
        await transaction.start()
        await customer.execute("UPDATE busy SET id = 2")  # a long transaction: the migration has to wait for it
        with pytest.raises(
            SchemaBusyError, match=rf"the oldest transaction is a long report, pid {customer.get_server_pid()}, open"
        ):
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


async def test_the_command_says_in_one_line_who_is_in_the_way_and_what_to_do(
    server: OwnServer, clean_redis_url: str, tmp_path: Path
) -> None:
    """On the product's own migrations: somebody reads a table of the release before in a transaction that they left open."""
    outside(lambda: control_plane.migrations.upgrade(server.url, "2026_11_23_statuses_validated"))
    reader = await asyncpg.connect(server.url, server_settings={"application_name": "a report"})
    try:
        await reader.execute("BEGIN; SELECT count(*) FROM customer_accounts")
        environment = inherited() | {
            "VLA_DATABASE_URL": server.url,
            "VLA_REDIS_URL": clean_redis_url,
            "VLA_KEY_PEPPER": "a pepper that only these tests know, of some length",
            "VLA_TRITON_URL": "127.0.0.1:1",
            "VLA_MODEL_REPOSITORY": str(tmp_path),
            "VLA_SPOOL_DIR": str(tmp_path),
        }
        refused = vlaapi(environment, "migrate")
        assert (refused.status, refused.out, len(refused.err.splitlines())) == (1, "", 1), refused.err
        pid = reader.get_server_pid()
        assert f"changed nothing; the oldest transaction is a report, pid {pid}, open for" in refused.err
        assert "run `vlaapi migrate` again" in refused.err
        await reader.execute("ROLLBACK")
        assert vlaapi(environment, "migrate").status == 0
    finally:
        await reader.close()
