"""The schema's history: dated slugs, expand → backfill → contract, each works with the previous release running.

`upgrade(database_url)` brings a database to the newest revision; it is what `vlaapi migrate`, `make up`, the proof of a backup
and the tests call.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from control_plane.db import SchemaBusyError, connect, create_engine

_LOCK_NOT_AVAILABLE = "55P03"
_OLDEST_TRANSACTION = """
    SELECT pid, application_name AS name, extract(epoch FROM now() - xact_start)::int AS seconds FROM pg_stat_activity
    WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    ORDER BY xact_start LIMIT 1
"""


def upgrade(database_url: str, revision: str = "head") -> None:
    """Runs every outstanding migration. Synchronous on purpose: it owns its own event loop and must not run inside one.

    Raises SchemaBusyError when somebody holds a table: those before are done, the one that had to wait has changed nothing.
    """
    config = _config()
    config.attributes["engine"] = create_engine(database_url, timeout_s=60)
    with lock_timeouts(database_url):
        command.upgrade(config, revision)


@contextmanager
def lock_timeouts(database_url: str) -> Iterator[None]:
    """Turns PostgreSQL's lock time-out into SchemaBusyError; everything else passes through."""
    try:
        yield
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        raise SchemaBusyError(
            f"a migration waited for a table in vain and changed nothing; {asyncio.run(_in_the_way(database_url))}. "
            "When that has ended (a backup, a report), run `vlaapi migrate` again; SELECT pg_terminate_backend(PID) ends it"
        ) from None


async def _in_the_way(database_url: str) -> str:
    """Whoever has held a transaction open for longest. Others' are seen by a superuser only."""
    connection = await connect(database_url, timeout_s=10, name="vlaapi-migrate")
    try:
        found = await connection.fetchrow(_OLDEST_TRANSACTION)
    finally:
        await connection.close()
    if found is None:
        return "SELECT * FROM pg_stat_activity ORDER BY xact_start, as a superuser, shows who holds one"
    return f"the oldest transaction is {found['name'] or 'unnamed'}, pid {found['pid']}, open for {found['seconds']} s"


def is_known(revision: str | None) -> bool:
    """Whether this release can bring a database of that revision up to date: a later release's it cannot."""
    return revision is not None and revision in {one.revision for one in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
