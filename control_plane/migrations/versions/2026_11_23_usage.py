"""Usage: the inference log in daily partitions, its roll-ups, dead letters, and `customers` as operators read it."""

from alembic import op

revision = "2026_11_23_usage"
down_revision = "2026_11_23_customers_and_keys"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_inference_logs()
    for table, period in (("usage_days", "day"), ("usage_months", "month")):
        _create_roll_up(table, period)
    op.execute("CREATE INDEX ix_usage_months_month ON usage_months (month)")
    op.execute("""
        CREATE TABLE usage_dead_letters (
            payload_hash bytea NOT NULL,
            payload bytea NOT NULL,
            request_id uuid,
            reason text NOT NULL,
            detail text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_usage_dead_letters PRIMARY KEY (payload_hash)
        )
    """)
    _create_customers()


def _create_inference_logs() -> None:
    # One id can only ever land in one partition, because its instant is inside it: so (request_id, timestamp) is unique on the id alone.
    op.execute("""
        CREATE TABLE inference_logs (
            request_id uuid NOT NULL,
            timestamp timestamptz NOT NULL,
            customer_id uuid NOT NULL,
            key_id uuid NOT NULL,
            route text NOT NULL,
            model text NOT NULL,
            model_version integer NOT NULL,
            robot_type text NOT NULL,
            instruction text,
            action jsonb,
            action_chunk real[] STORAGE EXTERNAL,
            safety_score double precision,
            decision text,
            limiting_rule text,
            latency_ms double precision NOT NULL,
            compute_ms double precision,
            status text NOT NULL,
            error_code text,
            session_id text,
            is_billable boolean NOT NULL,
            payload_hash bytea NOT NULL,
            recorded_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_inference_logs PRIMARY KEY (request_id, timestamp),
            CONSTRAINT ck_inference_logs_timestamp_is_in_id CHECK (
                (uuid_extract_version(request_id) = 7 AND uuid_extract_timestamp(request_id) = timestamp) IS TRUE
            ),
            CONSTRAINT ck_inference_logs_status CHECK (status IN ('success', 'refused', 'invalid', 'timeout', 'error')),
            CONSTRAINT ck_inference_logs_only_success_is_billed CHECK (status = 'success' OR NOT is_billable)
        ) PARTITION BY RANGE (timestamp)
    """)
    op.execute("CREATE INDEX ix_inference_logs_customer_id_timestamp ON inference_logs (customer_id, timestamp)")


def _create_roll_up(table: str, period: str) -> None:
    # A row is updated by every batch; the spare room in each page keeps those updates inside it (HOT).
    op.execute(f"""
        CREATE TABLE {table} (
            customer_id uuid NOT NULL,
            {period} date NOT NULL,
            requests bigint NOT NULL,
            billable_requests bigint NOT NULL,
            refused bigint NOT NULL,
            invalid bigint NOT NULL,
            failed bigint NOT NULL,
            compute_us bigint NOT NULL,
            CONSTRAINT pk_{table} PRIMARY KEY (customer_id, {period}),
            CONSTRAINT fk_{table}_customer_id_customer_accounts FOREIGN KEY (customer_id) REFERENCES customer_accounts (id)
        ) WITH (fillfactor = 50)
    """)


def _create_customers() -> None:
    op.execute("""
        CREATE TABLE tier_quotas (
            tier text NOT NULL,
            monthly_quota bigint NOT NULL,
            CONSTRAINT pk_tier_quotas PRIMARY KEY (tier),
            CONSTRAINT ck_tier_quotas_monthly_quota CHECK (monthly_quota > 0)
        )
    """)
    op.execute("INSERT INTO tier_quotas VALUES ('free', 10000), ('pro', 100000), ('enterprise', 1000000)")
    op.execute("""
        CREATE FUNCTION customers_at(at timestamptz) RETURNS TABLE (
            id uuid, company_name text, email text, tier text, is_active boolean, is_zero_retention boolean,
            monthly_usage bigint, monthly_quota bigint, created_at timestamptz
        ) LANGUAGE sql STABLE AS $$
            SELECT a.id, a.company_name, a.email, a.tier, a.is_active, a.is_zero_retention,
                   COALESCE(m.billable_requests, 0), COALESCE(a.per_month, q.monthly_quota), a.created_at
            FROM customer_accounts a
            LEFT JOIN tier_quotas q ON q.tier = a.tier
            LEFT JOIN usage_months m
                ON m.customer_id = a.id AND m.month = date_trunc('month', customers_at.at AT TIME ZONE 'UTC')::date
        $$
    """)
    op.execute("CREATE VIEW customers AS SELECT * FROM customers_at(now())")


def downgrade() -> None:
    op.execute("DROP VIEW customers")
    op.execute("DROP FUNCTION customers_at")
    for table in ("tier_quotas", "usage_dead_letters", "usage_months", "usage_days", "inference_logs"):
        op.execute(f"DROP TABLE {table}")
