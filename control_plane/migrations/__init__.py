"""The schema's history: dated slugs, expand → backfill → contract, each works with the previous release running.

`upgrade(database_url)` brings a database to the newest revision; it is what `vlaapi migrate`, `make up`, the proof of a backup
and the tests call.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from control_plane.db import create_engine


def upgrade(database_url: str, revision: str = "head") -> None:
    """Runs every outstanding migration. Synchronous on purpose: it owns its own event loop and must not run inside one."""
    config = _config()
    config.attributes["engine"] = create_engine(database_url, timeout_s=60)
    command.upgrade(config, revision)


def is_known(revision: str | None) -> bool:
    """Whether this release can bring a database of that revision up to date: a later release's it cannot."""
    return revision is not None and revision in {one.revision for one in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
