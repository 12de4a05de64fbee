"""The migrated schema: what the tables in code say, safe to run twice at once."""

import asyncio
import sys

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.alerts.tables import usage_alerts
from control_plane.audit.tables import audit_log
from control_plane.customers.tables import customer_accounts
from control_plane.db import create_engine, metadata
from control_plane.guarding.tables import safety_settings, safety_settings_changes
from control_plane.keys.tables import api_keys
from control_plane.mail.tables import mail_attachments, mails
from control_plane.operators.tables import operator_keys
from control_plane.policies import tables as policy_tables
from control_plane.signups.tables import signups
from control_plane.webhooks.tables import webhook_attempts, webhook_deliveries, webhook_endpoints, webhook_messages
from tests.control_plane.own_servers import own_postgres

TABLES = [
    policy_tables.fleet_revision,
    policy_tables.policy_states,
    policy_tables.disabled_policy_versions,
    policy_tables.policy_entitlements,
    policy_tables.policy_pins,
    policy_tables.draining_replicas,
    customer_accounts,
    api_keys,
    safety_settings,
    safety_settings_changes,
    audit_log,
    mails,
    mail_attachments,
    operator_keys,
    usage_alerts,
    signups,
    webhook_endpoints,
    webhook_messages,
    webhook_deliveries,
    webhook_attempts,
]

_COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull, pg_get_expr(adbin, adrelid) AS default
    FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attname
"""
_CONSTRAINTS = """
    SELECT conname, pg_get_constraintdef(oid) AS definition FROM pg_constraint WHERE conrelid = to_regclass($1) ORDER BY conname
"""
_INDEXES = """
    SELECT relname, regexp_replace(pg_get_indexdef(indexrelid), '(as_in_code|public)\\.', '', 'g') AS definition
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = to_regclass($1) ORDER BY 1
"""


async def described(connection: asyncpg.Connection, schema: str, table: str) -> dict[str, list[tuple[object, ...]]]:
    """Everything PostgreSQL knows about a table's shape, with names relative to its schema."""
    await connection.execute(f"SET search_path TO {schema}")
    return {
        kind: [tuple(row) for row in await connection.fetch(query, f"{schema}.{table}")]
        for kind, query in {"columns": _COLUMNS, "constraints": _CONSTRAINTS, "indexes": _INDEXES}.items()
    }


@pytest.mark.parametrize("table", [table.name for table in TABLES])
async def test_the_tables_in_code_are_the_migrated_tables(database_url: str, table: str) -> None:
    engine = create_engine(database_url)
    async with engine.begin() as sqlalchemy:
        await sqlalchemy.exec_driver_sql("CREATE SCHEMA as_in_code")
        await sqlalchemy.exec_driver_sql("SET LOCAL search_path TO as_in_code")
        await _create(sqlalchemy)
    await engine.dispose()
    connection = await asyncpg.connect(database_url)
    try:
        migrated, in_code = await described(connection, "public", table), await described(connection, "as_in_code", table)
    finally:
        await connection.close()
    assert migrated["columns"]
    assert migrated == in_code


async def _create(connection: AsyncConnection) -> None:
    await connection.run_sync(lambda sync: metadata.create_all(sync, tables=TABLES, checkfirst=False))


async def test_two_machines_may_migrate_an_empty_database_at_once() -> None:
    async with own_postgres() as server:
        code = "import sys; from control_plane.migrations import upgrade; upgrade(sys.argv[1])"
        machines = [await asyncio.create_subprocess_exec(sys.executable, "-c", code, server.url) for _ in range(2)]
        async with asyncio.timeout(60):
            assert [await machine.wait() for machine in machines] == [0, 0]
        connection = await asyncpg.connect(server.url)
        try:
            assert await connection.fetchval("SELECT count(*) FROM customer_accounts") == 0
            assert await connection.fetchval("SELECT count(*) FROM alembic_version") == 1
        finally:
            await connection.close()


async def test_an_email_belongs_to_one_customer_however_it_is_written(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    insert = "INSERT INTO customer_accounts (id, company_name, email, tier) VALUES (uuidv7(), 'A', $1, 'free')"
    try:
        await connection.execute(insert, "ops@example.com")
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute(insert, "OPS@Example.com")
    finally:
        await connection.close()
