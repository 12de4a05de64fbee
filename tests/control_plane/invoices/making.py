"""Factories with valid defaults: customers who began in the past, usage as the recorder leaves it, plans, and closing."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.audit.record import By
from control_plane.invoices.close import Closed, close_month
from control_plane.invoices.seller import STAND_IN, Seller
from control_plane.usage import roll_ups
from control_plane.usage.partitions import ensure_partitions
from control_plane.usage.request_id import mint_at

SEPTEMBER, OCTOBER = date(2026, 9, 1), date(2026, 10, 1)
BEGIN = datetime(2026, 9, 1, tzinfo=UTC)


async def a_customer(
    database: asyncpg.Connection, *, tier: str = "pro", created_at: datetime = BEGIN, company_name: str = "Acme Robotics"
) -> UUID:
    """A customer since that instant."""
    customer_id = uuid4()
    await database.execute(
        "INSERT INTO customer_accounts (id, company_name, email, tier, created_at) VALUES ($1, $2, $3, $4, $5)",
        customer_id,
        company_name,
        f"{customer_id}@example.com",
        tier,
        created_at,
    )
    return customer_id


async def use(database: asyncpg.Connection, customer_id: UUID, day: date, requests: int) -> None:
    """Roll-ups of so many billable requests, as the recorder adds them; no rows."""
    counts = dict.fromkeys(roll_ups.COUNTS, 0) | {"requests": requests, "billable_requests": requests}
    async with database.transaction():
        await roll_ups.add(database, [{"customer_id": customer_id, "day": day, **counts}])


async def request_at(database: asyncpg.Connection, customer_id: UUID, *instants: datetime) -> None:
    """Requests with their rows in the log and in the roll-ups."""
    await ensure_partitions(database, {instant.date() for instant in instants})
    for instant in instants:
        request_id = mint_at(instant)
        await database.execute(
            "INSERT INTO inference_logs (request_id, timestamp, customer_id, key_id, route, model, model_version, robot_type,"
            " latency_ms, status, is_billable, payload_hash) VALUES ($1, uuid_extract_timestamp($1), $2, $2, '/v1/inference',"
            " 'tabletop', 1, 'franka_panda', 20, 'success', true, '\\x00')",
            request_id,
            customer_id,
        )
        await use(database, customer_id, instant.date(), 1)


async def change_plan(database: asyncpg.Connection, customer_id: UUID, at: datetime, tier: str, **own: object) -> UUID:
    """A row of the history."""
    columns = ["id", "customer_id", "effective_at", "tier", "created_by", *own]
    subscription_id = uuid4()
    values = [subscription_id, customer_id, at, tier, "test", *own.values()]
    places = ", ".join(f"${n}" for n in range(1, len(values) + 1))
    await database.execute(f"INSERT INTO subscriptions ({', '.join(columns)}) VALUES ({places})", *values)  # noqa: S608
    return subscription_id


async def close(engine: AsyncEngine, month: date, seller: Seller = STAND_IN) -> Closed:
    """Closes the month as the command does."""
    return await close_month(engine, month, seller, By(actor="test"))


async def lines_of(database: asyncpg.Connection, customer_id: UUID, month: date) -> list[tuple[str, int | None, int]]:
    """Kind, quantity and cents of the lines of a customer's invoice."""
    rows = await database.fetch(
        "SELECT l.* FROM invoice_lines l JOIN invoices i ON i.id = l.invoice_id WHERE i.customer_id = $1 AND i.month = $2"
        " ORDER BY i.currency, l.position",
        customer_id,
        month,
    )
    return [(row["kind"], row["quantity"], row["amount_cents"]) for row in rows]


async def totals(database: asyncpg.Connection, month: date) -> dict[str, int]:
    """Number and cents of every invoice of the month."""
    rows = await database.fetch("SELECT number, total_cents FROM invoices WHERE month = $1 ORDER BY sequence_number", month)
    return {row["number"]: row["total_cents"] for row in rows}


def days_of(month: date) -> list[date]:
    """Every day of it."""
    after = date(month.year + month.month // 12, month.month % 12 + 1, 1)
    return [month + timedelta(days=n) for n in range((after - month).days)]


def dec(text: str) -> Decimal:
    """Exact."""
    return Decimal(text)
