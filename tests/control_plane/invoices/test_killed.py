"""kill -9 in the middle of a close, again and again, and run again: the same invoices, no gap, no double."""

import asyncio
import os
import signal
import sys
from datetime import timedelta

import asyncpg

from deploy.embedded.postgres import Cluster
from tests.conftest import a_database
from tests.control_plane.eventually import eventually
from tests.control_plane.fakes import ROOT
from tests.control_plane.invoices.making import BEGIN, SEPTEMBER, a_customer, change_plan, use

CUSTOMERS = 16
_CLOSE = """
import asyncio, sys
from datetime import date
from control_plane.audit.record import By
from control_plane.db import create_engine
from control_plane.invoices.close import close_month
from control_plane.invoices.seller import STAND_IN

async def main():
    engine = create_engine(sys.argv[1], pool_size=1, timeout_s=60)
    await close_month(engine, date(2026, 9, 1), STAND_IN, By(actor="test"))
    await engine.dispose()

asyncio.run(main())
"""
_COUNT = "SELECT (SELECT count(*) FROM invoices) + (SELECT count(*) FROM invoice_documents)"
_INVOICES = """
    SELECT i.customer_id, i.number, i.sequence_number, i.total_cents, i.currency, i.state,
           array_agg((l.position, l.kind, l.description, l.quantity, l.amount_cents)::text ORDER BY l.position) AS lines
    FROM invoices i JOIN invoice_lines l ON l.invoice_id = i.id GROUP BY i.id ORDER BY i.sequence_number
"""
_SETTLED = "SELECT customer_id, day, subscription_id, month, quantity, position FROM rated_usage ORDER BY 1, 2, 3"
_BOOKS = "SELECT customer_id, account, sum(amount_cents)::bigint FROM ledger_entries GROUP BY 1, 2 ORDER BY 1, 2"


async def start_closing(url: str) -> asyncio.subprocess.Process:
    """A process of its own that closes the month."""
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "PYTHONPATH": str(ROOT),
    }
    command = (sys.executable, "-c", _CLOSE, url)
    quiet = asyncio.subprocess.DEVNULL
    return await asyncio.create_subprocess_exec(*command, env=environment, cwd=ROOT, stdout=quiet, stderr=quiet)


async def fill(url: str) -> None:
    """Customers of both kinds with usage, some of whom changed their plan."""
    database = await asyncpg.connect(url)
    for n in range(CUSTOMERS):
        customer = await a_customer(database, tier="enterprise" if n % 2 else "pro")
        if n % 5 == 0:
            await change_plan(database, customer, BEGIN + timedelta(days=9, hours=7, seconds=n), "enterprise")
        for day in (1, 10, 30):
            await use(database, customer, SEPTEMBER.replace(day=day), 100 + n)
    await database.close()


async def looked_at(url: str) -> list[list[tuple[object, ...]]]:
    """Everything that may not depend on being killed."""
    database = await asyncpg.connect(url)
    try:
        return [[tuple(row) for row in await database.fetch(query)] for query in (_INVOICES, _SETTLED, _BOOKS)]
    finally:
        await database.close()


async def kill_at(url: str, database: asyncpg.Connection, count: int) -> None:
    """Starts closing and kills it as soon as so much is there."""

    async def is_there() -> bool:
        return bool(await database.fetchval(_COUNT) >= count)

    process = await start_closing(url)
    await eventually(is_there, every_s=0.002)
    process.send_signal(signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL


async def test_a_close_that_is_killed_again_and_again_ends_like_one_that_was_not(cluster: Cluster) -> None:
    with a_database(cluster) as undisturbed, a_database(cluster) as killed:
        await fill(undisturbed)
        await copy_into(undisturbed, killed)
        assert await (await start_closing(undisturbed)).wait() == 0
        database = await asyncpg.connect(killed)
        for count in (CUSTOMERS // 2, CUSTOMERS + 5):  # among the invoices, and among the documents
            await kill_at(killed, database, count)
        assert await database.fetchval("SELECT count(*) FROM closed_months") == 0
        assert await (await start_closing(killed)).wait() == 0
        numbers = [row["sequence_number"] for row in await database.fetch("SELECT sequence_number FROM invoices ORDER BY 1")]
        assert numbers == list(range(1, CUSTOMERS + 1))
        assert await database.fetchval("SELECT count(*) FROM invoice_documents") == CUSTOMERS
        assert await database.fetchval("SELECT count(*) FROM closed_months") == 1
        await database.close()
        assert await looked_at(killed) == await looked_at(undisturbed)


async def copy_into(source: str, target: str) -> None:
    """The same customers, plans and roll-ups."""
    there, here = await asyncpg.connect(source), await asyncpg.connect(target)
    await here.execute("ALTER TABLE customer_accounts DISABLE TRIGGER account_is_followed")
    for table in ("customer_accounts", "subscriptions", "usage_days", "usage_months"):
        rows = await there.fetch(f"SELECT * FROM {table}")  # noqa: S608 -- names above
        await here.copy_records_to_table(table, records=[tuple(row) for row in rows], columns=list(rows[0].keys()))
    await here.execute("ALTER TABLE customer_accounts ENABLE TRIGGER account_is_followed")
    await there.close()
    await here.close()
