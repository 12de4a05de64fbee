"""What a database holds at one instant, in numbers: rows of every table, the ledger, schema revision, place in the log.

Written into a manifest from the very snapshot that is dumped, and asked again of a restored copy: the two must be equal.
"""

import asyncpg

from control_plane.backups.manifest import Facts, LedgerSum

# Partitions are counted with their table; a day that is on its way into the archive is a table of its own.
_TABLES = """
    SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
    ORDER BY relname
"""
_LEDGER = """
    SELECT account, currency, sum(amount_cents)::bigint AS amount_cents FROM ledger_entries GROUP BY 1, 2 ORDER BY 1, 2
"""
_WHERE = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text"


async def read_facts(connection: "asyncpg.Connection") -> Facts:
    """In the caller's snapshot. Reads every row once."""
    tables = [row["relname"] for row in await connection.fetch(_TABLES)]
    rows = {table: await connection.fetchval(f'SELECT count(*) FROM "{table}"') for table in tables}  # noqa: S608 -- its own names
    ledger = await connection.fetch(_LEDGER) if "ledger_entries" in tables else []
    revision = "SELECT version_num FROM alembic_version"
    return Facts(
        server_version=await connection.fetchval("SHOW server_version"),
        wal_position=await connection.fetchval(_WHERE),
        schema_revision=await connection.fetchval(revision) if "alembic_version" in tables else None,
        rows=rows,
        ledger=[LedgerSum(account=row["account"], currency=row["currency"], amount_cents=row["amount_cents"]) for row in ledger],
    )


async def read_place(connection: "asyncpg.Connection") -> Facts:
    """Of a whole server only where its log is."""
    return Facts(
        server_version=await connection.fetchval("SHOW server_version"),
        wal_position=await connection.fetchval("SELECT pg_current_wal_lsn()::text"),
        wal_file=await connection.fetchval("SELECT pg_walfile_name(pg_current_wal_lsn())"),
        server=await connection.fetchval("SELECT system_identifier::text FROM pg_control_system()"),
    )


async def tables_in(connection: "asyncpg.Connection") -> int:
    """How many tables, views and sequences there are outside PostgreSQL's own schemas."""
    count: int = await connection.fetchval(
        """
        SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
        """
    )
    return count
