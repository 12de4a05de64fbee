"""Alembic's entry: runs migrations over asyncpg with a 5 s lock timeout. Called by `control_plane.migrations.upgrade`.

Two machines may start at once: one migrates, the other waits for it and then finds nothing to do.
"""

import asyncio

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

_ONE_AT_A_TIME = 0x766C61  # "vla": the advisory lock that a migrating session holds until it ends


def _run(connection: Connection) -> None:
    connection.execute(text(f"SELECT pg_advisory_lock({_ONE_AT_A_TIME})"))
    connection.execute(text("SET lock_timeout = '5s'"))
    connection.commit()
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


async def _upgrade(engine: AsyncEngine) -> None:
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_run)
    finally:
        await engine.dispose()


asyncio.run(_upgrade(context.config.attributes["engine"]))
