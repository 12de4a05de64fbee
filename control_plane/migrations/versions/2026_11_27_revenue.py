"""Revenue as SQL: the views that reports and Grafana share, and the small tables that say what SQL cannot compute.

docs/REVENUE.md defines every figure. Nothing here is ever read for an invoice.
"""

from alembic import op

revision = "2026_11_27_revenue"
down_revision = "2026_11_27_policies"
branch_labels = None
depends_on = None

_TABLES = (
    # What the months that are not closed would be invoiced for now, by the rating itself; rewritten whole by the worker.
    """
    CREATE TABLE revenue_open_lines (
        month date NOT NULL,
        customer_id uuid NOT NULL,
        position integer NOT NULL,
        currency text NOT NULL,
        kind text NOT NULL,
        tier text,
        fees_cents bigint NOT NULL,
        usage_cents bigint NOT NULL,
        CONSTRAINT pk_revenue_open_lines PRIMARY KEY (month, customer_id, position),
        CONSTRAINT fk_revenue_open_lines_customer_id_customer_accounts FOREIGN KEY (customer_id) REFERENCES customer_accounts (id)
    )
    """,
    """
    CREATE TABLE revenue_forecasts (
        month date NOT NULL,
        customer_id uuid NOT NULL,
        currency text NOT NULL,
        forecast_cents bigint NOT NULL,
        CONSTRAINT pk_revenue_forecasts PRIMARY KEY (month, customer_id, currency),
        CONSTRAINT fk_revenue_forecasts_customer_id_customer_accounts FOREIGN KEY (customer_id) REFERENCES customer_accounts (id)
    )
    """,
    """
    CREATE TABLE revenue_refreshes (
        is_only boolean NOT NULL DEFAULT true,
        refreshed_at timestamptz NOT NULL,
        CONSTRAINT pk_revenue_refreshes PRIMARY KEY (is_only),
        CONSTRAINT ck_revenue_refreshes_is_only CHECK (is_only)
    )
    """,
    # What running the service costs from an instant on; written from the settings when they change.
    """
    CREATE TABLE cost_rates (
        effective_at timestamptz NOT NULL,
        currency text NOT NULL,
        gpu_cents_per_h numeric NOT NULL,
        server_cents_per_h numeric NOT NULL,
        CONSTRAINT pk_cost_rates PRIMARY KEY (effective_at),
        CONSTRAINT ck_cost_rates_gpu_cents_per_h CHECK (gpu_cents_per_h >= 0),
        CONSTRAINT ck_cost_rates_server_cents_per_h CHECK (server_cents_per_h >= 0)
    )
    """,
)

_FUNCTIONS = (
    """
    CREATE FUNCTION month_begins(month date) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT month::timestamp AT TIME ZONE 'UTC'
    $$
    """,
    """
    CREATE FUNCTION month_after(month date) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT (month + interval '1 month')::date
    $$
    """,
    """
    CREATE FUNCTION growth_pct(now_ numeric, before numeric) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT round((now_ - before) / NULLIF(abs(before), 0) * 100, 1)
    $$
    """,
    # What each account has just before an instant, and what that is worth in a month.
    """
    CREATE FUNCTION plans_before(at timestamptz) RETURNS TABLE (
        customer_id uuid, tier text, is_active boolean, currency text, mrr_cents bigint, has_been_active boolean
    ) LANGUAGE sql STABLE AS $$
        SELECT s.customer_id, s.tier, s.is_active, COALESCE(s.currency, p.currency),
               CASE WHEN s.is_active THEN gross.cents - round(gross.cents * s.discount_basis_points / 10000.0) ELSE 0 END::bigint,
               s.has_been_active
        FROM (
            SELECT DISTINCT ON (customer_id) *, bool_or(is_active) OVER (PARTITION BY customer_id) AS has_been_active
            FROM subscriptions WHERE effective_at < plans_before.at AND canceled_at IS NULL
            ORDER BY customer_id, effective_at DESC, id DESC
        ) AS s
        LEFT JOIN LATERAL (
            SELECT * FROM price_versions v WHERE v.tier = s.tier
                AND v.effective_from <= ((plans_before.at - interval '1 microsecond') AT TIME ZONE 'UTC')::date
            ORDER BY v.effective_from DESC LIMIT 1
        ) AS p ON true
        CROSS JOIN LATERAL (
            SELECT COALESCE(s.monthly_cents, p.monthly_cents, 0)
                   + round(COALESCE(s.committed_requests, 0) * COALESCE(s.per_request_cents, p.per_request_cents, 0)) AS cents
        ) AS gross
    $$
    """,
)

_VIEWS = (
    # From the first subscription to now.
    """
    CREATE VIEW revenue_calendar AS
    SELECT month::date AS month, LEAST(month_begins(month_after(month::date)), now()) AS looked_at,
           month_begins(month_after(month::date)) > now() AS is_running,
           EXISTS (SELECT FROM closed_months c WHERE c.month = series.month::date) AS is_closed
    FROM generate_series(
        (SELECT date_trunc('month', min(effective_at) AT TIME ZONE 'UTC') FROM subscriptions WHERE canceled_at IS NULL),
        date_trunc('month', now() AT TIME ZONE 'UTC'), interval '1 month'
    ) AS series (month)
    """,
    # Every line that counts, with the tier that it counts for. Lines without one go where their invoice's last line with a tier is.
    """
    CREATE VIEW revenue_lines AS
    SELECT i.month, i.customer_id, i.currency, COALESCE(l.tier, last.tier, a.tier) AS tier, l.kind, l.amount_cents, true AS is_final
    FROM invoices i
    JOIN invoice_lines l ON l.invoice_id = i.id
    JOIN customer_accounts a ON a.id = i.customer_id
    LEFT JOIN LATERAL (
        SELECT t.tier FROM invoice_lines t WHERE t.invoice_id = i.id AND t.tier IS NOT NULL ORDER BY t.ends_at DESC, t.position DESC LIMIT 1
    ) AS last ON true
    WHERE i.state NOT IN ('draft', 'void') AND l.kind <> 'carried'
    UNION ALL
    SELECT date_trunc('month', c.created_at AT TIME ZONE 'UTC')::date, c.customer_id, c.currency, COALESCE(last.tier, a.tier), 'credit',
           -c.amount_cents, true
    FROM credit_notes c
    JOIN invoices i ON i.id = c.invoice_id
    JOIN customer_accounts a ON a.id = c.customer_id
    LEFT JOIN LATERAL (
        SELECT t.tier FROM invoice_lines t WHERE t.invoice_id = i.id AND t.tier IS NOT NULL ORDER BY t.ends_at DESC, t.position DESC LIMIT 1
    ) AS last ON true
    WHERE i.state <> 'void'
    UNION ALL
    SELECT o.month, o.customer_id, o.currency, COALESCE(o.tier, a.tier), o.kind, o.fees_cents + o.usage_cents, false
    FROM revenue_open_lines o JOIN customer_accounts a ON a.id = o.customer_id
    WHERE NOT EXISTS (
        SELECT FROM invoices i WHERE i.customer_id = o.customer_id AND i.month = o.month AND i.state <> 'draft'
    )
    """,
    # The same money by the ledger, which knows fees from usage: discounts and credit notes are shared between both there.
    """
    CREATE VIEW revenue_bookings AS
    SELECT CASE WHEN e.kind = 'credit_note' THEN date_trunc('month', n.created_at AT TIME ZONE 'UTC')::date ELSE i.month END AS month,
           e.customer_id, e.currency,
           CASE WHEN e.account = 'revenue_fees' THEN -e.amount_cents ELSE 0 END AS fees_cents,
           CASE WHEN e.account = 'revenue_usage' THEN -e.amount_cents ELSE 0 END AS usage_cents,
           CASE WHEN e.kind = 'credit_note' THEN e.amount_cents ELSE 0 END AS credited_cents,
           true AS is_final
    FROM ledger_entries e JOIN invoices i ON i.id = e.invoice_id LEFT JOIN credit_notes n ON n.id = e.credit_note_id
    WHERE e.account IN ('revenue_fees', 'revenue_usage') AND e.kind IN ('finalized', 'credit_note') AND i.state <> 'void'
    UNION ALL
    SELECT o.month, o.customer_id, o.currency, o.fees_cents, o.usage_cents, 0, false
    FROM revenue_open_lines o
    WHERE NOT EXISTS (
        SELECT FROM invoices i WHERE i.customer_id = o.customer_id AND i.month = o.month AND i.state <> 'draft'
    )
    """,
    """
    CREATE VIEW revenue_by_tier AS
    SELECT month, currency, tier, sum(amount_cents)::bigint AS revenue_cents, count(DISTINCT customer_id) AS customers,
           round(sum(amount_cents) / NULLIF(sum(sum(amount_cents)) OVER (PARTITION BY month, currency), 0) * 100, 1) AS share_pct
    FROM revenue_lines GROUP BY month, currency, tier
    """,
    """
    CREATE VIEW revenue_by_customer AS
    SELECT b.month, b.currency, b.customer_id, a.company_name, a.tier, b.revenue_cents, b.fees_cents, b.usage_cents, b.credited_cents,
           round(b.revenue_cents / NULLIF(sum(b.revenue_cents) OVER (PARTITION BY b.month, b.currency), 0) * 100, 1) AS share_pct
    FROM (
        SELECT month, currency, customer_id, sum(fees_cents + usage_cents)::bigint AS revenue_cents, sum(fees_cents)::bigint AS fees_cents,
               sum(usage_cents)::bigint AS usage_cents, sum(credited_cents)::bigint AS credited_cents
        FROM revenue_bookings GROUP BY month, currency, customer_id
    ) AS b JOIN customer_accounts a ON a.id = b.customer_id
    """,
    # One row for each customer and month in which they had a plan. New and returned, churned: by whether the account is active.
    """
    CREATE VIEW customer_movements AS
    SELECT c.month, e.customer_id, a.company_name, e.tier, e.currency,
           COALESCE(s.is_active, false) AS was_active_at_start, e.is_active AS is_active_at_end,
           COALESCE(s.mrr_cents, 0) AS mrr_start_cents, e.mrr_cents AS mrr_end_cents,
           CASE WHEN e.is_active AND NOT COALESCE(s.is_active, false)
                     THEN CASE WHEN COALESCE(s.has_been_active, false) THEN 'returned' ELSE 'new' END
                WHEN COALESCE(s.is_active, false) AND NOT e.is_active THEN 'churned'
                WHEN e.is_active THEN 'kept'
                ELSE 'away' END AS movement,
           CASE WHEN s.currency IS DISTINCT FROM e.currency AND COALESCE(s.mrr_cents, 0) <> 0 AND e.mrr_cents <> 0 THEN 'currency'
                WHEN COALESCE(s.mrr_cents, 0) = 0 AND e.mrr_cents > 0
                     THEN CASE WHEN COALESCE(s.has_been_active, false) AND NOT s.is_active THEN 'reactivation' ELSE 'new' END
                WHEN COALESCE(s.mrr_cents, 0) > 0 AND e.mrr_cents = 0 THEN 'churn'
                WHEN e.mrr_cents > COALESCE(s.mrr_cents, 0) THEN 'expansion'
                WHEN e.mrr_cents < COALESCE(s.mrr_cents, 0) THEN 'contraction'
                ELSE 'none' END AS mrr_movement
    FROM revenue_calendar c
    CROSS JOIN LATERAL plans_before(c.looked_at) AS e
    JOIN customer_accounts a ON a.id = e.customer_id
    LEFT JOIN LATERAL plans_before(month_begins(c.month)) AS s ON s.customer_id = e.customer_id
    """,
    """
    CREATE VIEW usage_by_customer AS
    SELECT u.month, u.customer_id, a.company_name, a.tier, u.requests, u.billable_requests, before.requests AS requests_before,
           growth_pct(u.requests, before.requests) AS growth_pct
    FROM usage_months u
    JOIN customer_accounts a ON a.id = u.customer_id
    LEFT JOIN usage_months before ON before.customer_id = u.customer_id AND month_after(before.month) = u.month
    """,
    # The whole month, also of the running one: its fees count in full too.
    """
    CREATE VIEW cost_months AS
    SELECT c.month, r.currency,
           round(sum(r.gpu_cents_per_h * hours.count))::bigint AS gpu_cents, round(sum(r.server_cents_per_h * hours.count))::bigint AS server_cents
    FROM revenue_calendar c
    JOIN (
        SELECT *, COALESCE(lead(effective_at) OVER (ORDER BY effective_at), 'infinity') AS ends_at FROM cost_rates
    ) AS r ON r.effective_at < month_begins(month_after(c.month)) AND r.ends_at > month_begins(c.month)
    CROSS JOIN LATERAL (
        SELECT extract(epoch FROM LEAST(r.ends_at, month_begins(month_after(c.month))) - GREATEST(r.effective_at, month_begins(c.month)))
               / 3600.0 AS count
    ) AS hours
    GROUP BY c.month, r.currency
    """,
    # What does not depend on a currency.
    """
    CREATE VIEW customer_months AS
    SELECT months.*, before.requests AS requests_before, growth_pct(months.requests, before.requests) AS requests_growth_pct,
           round(months.churned * 100.0 / NULLIF(months.active_at_start, 0), 1) AS churn_pct,
           round(months.paying_lost * 100.0 / NULLIF(months.paying_at_start, 0), 1) AS paying_churn_pct
    FROM (
        SELECT c.month, c.is_running, c.is_closed,
               count(*) FILTER (WHERE m.was_active_at_start) AS active_at_start,
               count(*) FILTER (WHERE m.movement = 'new') AS new,
               count(*) FILTER (WHERE m.movement = 'returned') AS returned,
               count(*) FILTER (WHERE m.movement = 'churned') AS churned,
               count(*) FILTER (WHERE m.is_active_at_end) AS active_at_end,
               count(*) FILTER (WHERE m.mrr_start_cents > 0) AS paying_at_start,
               count(*) FILTER (WHERE m.mrr_start_cents > 0 AND m.mrr_end_cents = 0) AS paying_lost,
               count(*) FILTER (WHERE m.mrr_end_cents > 0) AS paying_at_end,
               (SELECT COALESCE(sum(u.requests), 0)::bigint FROM usage_months u WHERE u.month = c.month) AS requests,
               (SELECT COALESCE(sum(u.billable_requests), 0)::bigint FROM usage_months u WHERE u.month = c.month) AS billable_requests,
               (SELECT count(*) FROM usage_months u WHERE u.month = c.month AND u.requests > 0) AS calling
        FROM revenue_calendar c LEFT JOIN customer_movements m ON m.month = c.month
        GROUP BY c.month, c.is_running, c.is_closed
    ) AS months
    LEFT JOIN LATERAL (
        SELECT sum(u.requests)::bigint AS requests FROM usage_months u WHERE month_after(u.month) = months.month
    ) AS before ON true
    """,
    """
    CREATE VIEW revenue_months AS
    WITH currencies AS (
        SELECT currency FROM revenue_bookings UNION SELECT currency FROM customer_movements UNION SELECT currency FROM cost_rates
    ), booked AS (
        SELECT month, currency, sum(fees_cents)::bigint AS fees_cents, sum(usage_cents)::bigint AS usage_cents,
               sum(credited_cents)::bigint AS credited_cents, count(DISTINCT customer_id) FILTER (WHERE fees_cents + usage_cents <> 0) AS payers
        FROM revenue_bookings GROUP BY month, currency
    ), recurring AS (
        SELECT month, currency, sum(mrr_end_cents)::bigint AS mrr_cents FROM customer_movements GROUP BY month, currency
    ), forecast AS (
        SELECT month, currency, sum(forecast_cents)::bigint AS forecast_cents FROM revenue_forecasts GROUP BY month, currency
    ), months AS (
        SELECT c.month, k.currency, c.is_running, c.is_closed,
               COALESCE(b.fees_cents, 0) + COALESCE(b.usage_cents, 0) AS revenue_cents,
               COALESCE(b.fees_cents, 0) AS fees_cents, COALESCE(b.usage_cents, 0) AS usage_cents,
               COALESCE(b.credited_cents, 0) AS credited_cents, COALESCE(r.mrr_cents, 0) AS mrr_cents, COALESCE(b.payers, 0) AS payers,
               o.gpu_cents, o.server_cents, CASE WHEN c.is_running THEN f.forecast_cents + LEAST(0, -COALESCE(b.credited_cents, 0)) END AS forecast_cents
        FROM revenue_calendar c CROSS JOIN currencies k
        LEFT JOIN booked b ON b.month = c.month AND b.currency = k.currency
        LEFT JOIN recurring r ON r.month = c.month AND r.currency = k.currency
        LEFT JOIN cost_months o ON o.month = c.month AND o.currency = k.currency
        LEFT JOIN forecast f ON f.month = c.month AND f.currency = k.currency
    )
    SELECT months.*, before.revenue_cents AS revenue_before_cents, growth_pct(months.revenue_cents, before.revenue_cents) AS revenue_growth_pct,
           before.mrr_cents AS mrr_before_cents, growth_pct(months.mrr_cents, before.mrr_cents) AS mrr_growth_pct,
           round(months.revenue_cents::numeric / NULLIF(months.payers, 0))::bigint AS arpu_cents,
           months.revenue_cents - months.gpu_cents - months.server_cents AS margin_cents,
           round((months.revenue_cents - months.gpu_cents - months.server_cents) * 100.0 / NULLIF(months.revenue_cents, 0), 1) AS margin_pct
    FROM months LEFT JOIN months before ON month_after(before.month) = months.month AND before.currency = months.currency
    """,
)

_VIEW_NAMES = (
    "revenue_months",
    "customer_months",
    "cost_months",
    "usage_by_customer",
    "customer_movements",
    "revenue_by_customer",
    "revenue_by_tier",
    "revenue_bookings",
    "revenue_lines",
    "revenue_calendar",
)


def upgrade() -> None:
    for statement in (*_TABLES, *_FUNCTIONS, *_VIEWS):
        op.execute(statement)


def downgrade() -> None:
    for view in _VIEW_NAMES:
        op.execute(f"DROP VIEW {view}")
    for function in ("plans_before", "growth_pct", "month_after", "month_begins"):
        op.execute(f"DROP FUNCTION {function}")
    for table in ("cost_rates", "revenue_refreshes", "revenue_forecasts", "revenue_open_lines"):
        op.execute(f"DROP TABLE {table}")
