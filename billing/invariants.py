"""The truths of billing, one function each: what must hold over all tables whoever wrote them. Empty means that it holds.

Each takes a connection and a Scope and returns its violations in words; nothing is repaired. Run in tests (each is shown to fail
on broken data), hourly by the worker and by `vlaapi billing check`. Knows SQL and the values of `billing`, no other package.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.statement import Statement, content_hash

MOST_SHOWN = 100  # of each truth: enough to see what is wrong, and a broken database does not fill the memory

ReadStatement = Callable[[AsyncConnection, UUID], Awaitable[Statement]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """How far back rows are read, and how an invoice is read back. What is cheap is always looked at whole."""

    since: date
    read_statement: ReadStatement


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One place where a truth does not hold."""

    invariant: str
    detail: str


Check = Callable[[AsyncConnection, Scope], Awaitable[list[Violation]]]

# Days in the archive are proven against their files by `vlaapi usage audit`.
_ROLL_UPS = """
    WITH raw AS (
        SELECT customer_id, (timestamp AT TIME ZONE 'UTC')::date AS day, count(*) AS requests,
               count(*) FILTER (WHERE is_billable) AS billable
        FROM inference_logs
        WHERE timestamp >= (:since)::timestamp AT TIME ZONE 'UTC' AND NOT is_test
        GROUP BY 1, 2
    ), kept AS (
        SELECT customer_id, day, requests, billable_requests AS billable FROM usage_days WHERE day >= :since
    ), months AS (
        SELECT customer_id, date_trunc('month', day::timestamp)::date AS month, sum(requests) AS requests,
               sum(billable_requests) AS billable
        FROM usage_days GROUP BY 1, 2
    )
    SELECT 'customer ' || customer_id || ' on ' || day || ': ' || COALESCE(kept.billable, 0) || ' of '
           || COALESCE(kept.requests, 0) || ' rolled up, '
           || COALESCE(raw.billable, 0) || ' of ' || COALESCE(raw.requests, 0) || ' in the rows' AS detail
    FROM raw FULL JOIN kept USING (customer_id, day)
    WHERE day NOT IN (SELECT day FROM usage_archive)
      AND (COALESCE(raw.requests, 0), COALESCE(raw.billable, 0)) <> (COALESCE(kept.requests, 0), COALESCE(kept.billable, 0))
    UNION ALL
    SELECT 'customer ' || customer_id || ' in ' || month || ': the month is not the sum of its days'
    FROM months FULL JOIN usage_months u USING (customer_id, month)
    WHERE (COALESCE(months.requests, 0), COALESCE(months.billable, 0))
          <> (COALESCE(u.requests, 0), COALESCE(u.billable_requests, 0))
    LIMIT :most
"""

# A correction that takes back is settled by the next close; until then it does not make what was billed wrong.
_BILLED_ONCE = """
    WITH used AS (
        SELECT customer_id, day, billable_requests AS quantity FROM usage_days
        UNION ALL SELECT customer_id, day, quantity FROM usage_adjustments WHERE quantity > 0
    ), sums AS (
        SELECT customer_id, day, sum(quantity) AS quantity FROM used GROUP BY 1, 2
    ), settled AS (
        SELECT customer_id, day, sum(quantity) AS quantity FROM rated_usage GROUP BY 1, 2
    ), lines AS (
        SELECT invoice_id, position, sum(quantity) AS quantity FROM rated_usage WHERE invoice_id IS NOT NULL GROUP BY 1, 2
    )
    SELECT 'customer ' || customer_id || ' on ' || day || ': ' || settled.quantity || ' settled of ' || COALESCE(sums.quantity, 0)
           AS detail
    FROM settled LEFT JOIN sums USING (customer_id, day) WHERE settled.quantity > COALESCE(sums.quantity, 0)
    UNION ALL
    SELECT 'invoice line ' || l.invoice_id || '/' || l.position || ': asks for ' || COALESCE(l.quantity, 0) || ', '
           || COALESCE(lines.quantity, 0) || ' settled on it'
    FROM invoice_lines l LEFT JOIN lines USING (invoice_id, position)
    WHERE (l.kind IN ('usage', 'overage') OR lines.quantity IS NOT NULL)
      AND (l.kind NOT IN ('usage', 'overage') OR COALESCE(l.quantity, 0) <> COALESCE(lines.quantity, 0))
    LIMIT :most
"""

_TOTALS = """
    SELECT COALESCE(i.number, 'draft ' || i.id) || ': asks for ' || i.total_cents || ', its lines for '
           || COALESCE(sum(l.amount_cents), 0) AS detail
    FROM invoices i LEFT JOIN invoice_lines l ON l.invoice_id = i.id
    GROUP BY i.id HAVING i.total_cents <> COALESCE(sum(l.amount_cents), 0) LIMIT :most
"""

_FINAL = "SELECT id, number, content_hash FROM invoices WHERE state <> 'draft' AND month >= :since ORDER BY sequence_number"

_LEDGER = """
    WITH claims AS (
        SELECT i.id, i.number, i.state, i.total_cents
               - COALESCE((SELECT sum(p.amount_cents) FROM payments p WHERE p.invoice_id = i.id), 0)
               - COALESCE((SELECT sum(c.amount_cents) FROM credit_notes c WHERE c.invoice_id = i.id), 0) AS open_cents
        FROM invoices i WHERE i.state <> 'draft'
    ), booked AS (
        SELECT invoice_id, sum(amount_cents) FILTER (WHERE account = 'receivable') AS receivable,
               sum(amount_cents) FILTER (WHERE account = 'bad_debt') AS bad_debt
        FROM ledger_entries GROUP BY 1
    )
    SELECT 'transaction ' || transaction_id || ' in ' || currency || ': off by ' || sum(amount_cents) AS detail
    FROM ledger_entries GROUP BY transaction_id, currency HAVING sum(amount_cents) <> 0
    UNION ALL
    SELECT 'account ' || account || ' of invoice ' || number || ': ' || booked || ' booked, ' || wanted || ' by the invoice'
    FROM (
        SELECT number, 'receivable' AS account, COALESCE(receivable, 0) AS booked,
               CASE WHEN state = 'finalized' THEN open_cents ELSE 0 END AS wanted
        FROM claims LEFT JOIN booked ON booked.invoice_id = claims.id
        UNION ALL
        SELECT number, 'bad_debt', COALESCE(bad_debt, 0), CASE WHEN state = 'uncollectible' THEN open_cents ELSE 0 END
        FROM claims LEFT JOIN booked ON booked.invoice_id = claims.id
    ) AS accounts WHERE booked <> wanted
    LIMIT :most
"""

_NUMBERS = """
    WITH given AS (
        SELECT legal_entity, 'invoice' AS kind, sequence_number FROM invoices WHERE sequence_number IS NOT NULL
        UNION ALL SELECT legal_entity, 'credit_note', sequence_number FROM credit_notes
    ), counted AS (
        SELECT legal_entity, kind, count(*) AS count, min(sequence_number) AS first, max(sequence_number) AS last
        FROM given GROUP BY 1, 2
    )
    SELECT kind || ' numbers of ' || legal_entity || ': ' || COALESCE(counted.count, 0) || ' given from '
           || COALESCE(counted.first, 0) || ' to ' || COALESCE(counted.last, 0)
           || ', the sequence is at ' || COALESCE(s.last_number, 0) AS detail
    FROM counted FULL JOIN invoice_sequences s USING (legal_entity, kind)
    WHERE COALESCE(counted.count, 0) <> COALESCE(s.last_number, 0) OR counted.first <> 1 OR counted.last <> s.last_number
    LIMIT :most
"""

# Customers come from the ledger, tiers from the lines: two ways to the same money.
_SUMS = """
    WITH customers AS (
        SELECT month, currency, sum(revenue_cents) AS cents FROM revenue_by_customer GROUP BY 1, 2
    ), tiers AS (
        SELECT month, currency, sum(revenue_cents) AS cents FROM revenue_by_tier GROUP BY 1, 2
    )
    SELECT month || ' in ' || currency || ': customers ' || COALESCE(customers.cents, 0) || ', tiers '
           || COALESCE(tiers.cents, 0) AS detail
    FROM customers FULL JOIN tiers USING (month, currency) WHERE COALESCE(customers.cents, 0) <> COALESCE(tiers.cents, 0)
    ORDER BY 1 LIMIT :most
"""


async def roll_ups_equal_rows(connection: AsyncConnection, scope: Scope) -> list[Violation]:
    """What is billed from says what the log says, and months are the sums of their days."""
    return await _found(connection, "roll_ups_equal_rows", _ROLL_UPS, {"since": scope.since})


async def every_row_is_billed_once(connection: AsyncConnection, _scope: Scope) -> list[Violation]:
    """No day has more settled than used, and each metered line asks for exactly the usage that is settled on it."""
    return await _found(connection, "every_row_is_billed_once", _BILLED_ONCE, {})


async def totals_equal_lines(connection: AsyncConnection, _scope: Scope) -> list[Violation]:
    """An invoice asks for the sum of its lines."""
    return await _found(connection, "totals_equal_lines", _TOTALS, {})


async def final_invoices_never_change(connection: AsyncConnection, scope: Scope) -> list[Violation]:
    """Every final invoice still hashes to what it did when it was finalized."""
    found = []
    for row in (await connection.execute(text(_FINAL), {"since": scope.since})).all():
        if content_hash(await scope.read_statement(connection, row.id)) != row.content_hash:
            found.append(Violation(invariant="final_invoices_never_change", detail=f"{row.number}: is not what was finalized"))
    return found[:MOST_SHOWN]


async def ledger_balances(connection: AsyncConnection, _scope: Scope) -> list[Violation]:
    """Every transaction adds up to zero, and what is still asked for is what the invoices say."""
    return await _found(connection, "ledger_balances", _LEDGER, {})


async def numbers_have_no_gap(connection: AsyncConnection, _scope: Scope) -> list[Violation]:
    """Invoices and credit notes of a legal entity are numbered 1, 2, 3 … up to what its sequence says."""
    return await _found(connection, "numbers_have_no_gap", _NUMBERS, {})


async def customers_equal_tiers(connection: AsyncConnection, _scope: Scope) -> list[Violation]:
    """Revenue over all customers is revenue over all tiers, in every month and currency."""
    return await _found(connection, "customers_equal_tiers", _SUMS, {})


INVARIANTS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        roll_ups_equal_rows,
        every_row_is_billed_once,
        totals_equal_lines,
        final_invoices_never_change,
        ledger_balances,
        numbers_have_no_gap,
        customers_equal_tiers,
    )
}


async def _found(connection: AsyncConnection, name: str, query: str, parameters: Mapping[str, object]) -> list[Violation]:
    rows = await connection.execute(text(query), {"most": MOST_SHOWN, **parameters})
    return [Violation(invariant=name, detail=row.detail) for row in rows]
