"""The schema's history: dated slugs, expand → backfill → contract, each works with the previous release running.

`upgrade(database_url)` brings a database to the newest revision; it is what `vlaapi migrate`, `make up` and the tests call.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config

from control_plane.db import create_engine


def upgrade(database_url: str) -> None:
    """Runs every outstanding migration. Synchronous on purpose: it owns its own event loop and must not run inside one."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["engine"] = create_engine(database_url, timeout_s=60)
    command.upgrade(config, "head")
