"""What Grafana reads: the schema `dashboards` with views of its own, and the role `vlaapi_reader`, which sees nothing else.

The views hold no e-mail address, key, instruction or action. The role cannot log in; `vlaapi dashboards login` makes a user who may
act as it. Where this migration's user may not create roles, the role comes from that command (or from whoever made the cluster),
and `dashboards.open_to_reader()` is what both call. docs/DASHBOARDS.md names every view.
"""

from alembic import op

revision = "2026_11_27_dashboards"
down_revision = "2026_11_27_data_policies"
branch_labels = None
depends_on = None

_FUNCTIONS = (
    # The smallest id of an instant. Ids are in time order, so a range of them is a range of the log's primary key.
    """
    CREATE FUNCTION dashboards.id_at(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid
    $$
    """,
    # Cents of a currency in its major unit.
    """
    CREATE FUNCTION dashboards.amount(cents numeric, currency text) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT CASE WHEN currency IN ('CLP', 'ISK', 'JPY', 'KRW', 'VND') THEN cents
                    WHEN currency IN ('BHD', 'JOD', 'KWD', 'OMR', 'TND') THEN cents / 1000
                    ELSE cents / 100 END
    $$
    """,
)

_VIEWS = (
    # The seed's own statement runs on it as written. Not `public.customers`: that goes through a function, which would run with the
    # reader's own rights.
    """
    CREATE VIEW dashboards.customers AS
    SELECT a.id AS customer_id, a.company_name, a.tier, a.is_active, COALESCE(m.billable_requests, 0) AS monthly_usage,
           COALESCE(a.per_month, q.monthly_quota) AS monthly_quota, a.created_at
    FROM customer_accounts a
    LEFT JOIN tier_quotas q ON q.tier = a.tier
    LEFT JOIN usage_months m ON m.customer_id = a.id AND m.month = date_trunc('month', now() AT TIME ZONE 'UTC')::date
    """,
    # One row a request, without what was asked for and what was answered. Test keys are left out, as everywhere in the business.
    """
    CREATE VIEW dashboards.requests AS
    SELECT l.request_id, l.timestamp, l.customer_id, a.company_name, a.tier, l.route, l.model AS policy, l.model_version AS version, l.robot_type,
           l.status, l.error_code, l.decision, l.limiting_rule, l.safety_score, l.latency_ms, l.compute_ms, l.is_billable
    FROM inference_logs l JOIN customer_accounts a ON a.id = l.customer_id
    WHERE NOT l.is_test
    """,
    """
    CREATE VIEW dashboards.customers_last_hour AS
    SELECT customer_id, company_name, tier, count(*) AS requests, count(*) FILTER (WHERE status = 'success') AS answered,
           count(*) FILTER (WHERE status IN ('timeout', 'error')) AS failed,
           round(count(*) * 100.0 / sum(count(*)) OVER (), 1) AS share_pct
    FROM dashboards.requests
    WHERE request_id >= dashboards.id_at(now() - interval '1 hour') AND timestamp >= now() - interval '1 hour'
    GROUP BY customer_id, company_name, tier
    """,
    """
    CREATE VIEW dashboards.usage_days AS
    SELECT u.day, u.customer_id, a.company_name, a.tier, u.requests, u.billable_requests, u.refused, u.invalid, u.failed,
           u.compute_us / 1e6 AS compute_s
    FROM usage_days u JOIN customer_accounts a ON a.id = u.customer_id
    """,
    """
    CREATE VIEW dashboards.usage_months AS
    SELECT month, company_name, tier, requests, billable_requests, requests_before, growth_pct FROM usage_by_customer
    """,
    """
    CREATE VIEW dashboards.revenue_months AS
    SELECT month, currency, is_running, is_closed, dashboards.amount(revenue_cents, currency) AS revenue, revenue_growth_pct,
           dashboards.amount(fees_cents, currency) AS fees, dashboards.amount(usage_cents, currency) AS usage,
           dashboards.amount(credited_cents, currency) AS credited, dashboards.amount(mrr_cents, currency) AS mrr, mrr_growth_pct,
           payers, dashboards.amount(arpu_cents, currency) AS arpu, dashboards.amount(gpu_cents, currency) AS gpu_cost,
           dashboards.amount(server_cents, currency) AS server_cost, dashboards.amount(margin_cents, currency) AS margin, margin_pct,
           dashboards.amount(forecast_cents, currency) AS forecast
    FROM revenue_months
    """,
    """
    CREATE VIEW dashboards.revenue_by_customer AS
    SELECT month, currency, company_name, tier, dashboards.amount(revenue_cents, currency) AS revenue,
           dashboards.amount(fees_cents, currency) AS fees, dashboards.amount(usage_cents, currency) AS usage, share_pct
    FROM revenue_by_customer
    """,
    """
    CREATE VIEW dashboards.revenue_by_tier AS
    SELECT month, currency, tier, dashboards.amount(revenue_cents, currency) AS revenue, customers, share_pct FROM revenue_by_tier
    """,
    """
    CREATE VIEW dashboards.customer_months AS
    SELECT month, is_running, active_at_start, new, returned, churned, active_at_end, paying_at_end, calling, churn_pct, paying_churn_pct,
           requests, billable_requests, requests_growth_pct
    FROM customer_months
    """,
    """
    CREATE VIEW dashboards.customer_movements AS
    SELECT month, company_name, tier, currency, movement, mrr_movement, dashboards.amount(mrr_start_cents, currency) AS mrr_start,
           dashboards.amount(mrr_end_cents, currency) AS mrr_end
    FROM customer_movements
    """,
)

# SQL functions run with the rights of whoever asks, also inside a view. This one reads tables that the reader must not see whole.
_DEFINER = (
    "ALTER FUNCTION plans_before(timestamptz) SECURITY DEFINER",
    "ALTER FUNCTION plans_before(timestamptz) SET search_path = public, pg_temp",
    "REVOKE EXECUTE ON FUNCTION plans_before(timestamptz) FROM PUBLIC",
)

_ROLE = """
    DO $$ BEGIN
        CREATE ROLE vlaapi_reader NOLOGIN;
    EXCEPTION
        WHEN duplicate_object OR unique_violation THEN NULL;
        WHEN insufficient_privilege THEN
            RAISE NOTICE 'this user may not create the role vlaapi_reader; `vlaapi dashboards login` will';
    END $$
"""

# Safe to repeat; whoever adds a view calls it again.
_OPEN = """
    CREATE PROCEDURE dashboards.open_to_reader() LANGUAGE plpgsql AS $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'vlaapi_reader') THEN
            RETURN;
        END IF;
        GRANT USAGE ON SCHEMA dashboards TO vlaapi_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA dashboards TO vlaapi_reader;
        GRANT EXECUTE ON FUNCTION public.plans_before(timestamptz) TO vlaapi_reader;
    END $$
"""


def upgrade() -> None:
    op.execute("CREATE SCHEMA dashboards")
    for statement in (*_FUNCTIONS, *_VIEWS, *_DEFINER, _ROLE, _OPEN):
        op.execute(statement)
    op.execute("CALL dashboards.open_to_reader()")


def downgrade() -> None:
    """The role stays: it belongs to the cluster, and another database may use it."""
    op.execute("DROP SCHEMA dashboards CASCADE")
    op.execute("ALTER FUNCTION plans_before(timestamptz) SECURITY INVOKER")
    op.execute("ALTER FUNCTION plans_before(timestamptz) RESET search_path")
    op.execute("GRANT EXECUTE ON FUNCTION plans_before(timestamptz) TO PUBLIC")
