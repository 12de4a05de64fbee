"""Webhooks: addresses, messages, deliveries, attempts; and the usage alerts that were given."""

from alembic import op

revision = "2026_11_27_webhooks_and_alerts"
down_revision = "2026_11_27_revenue"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_endpoints_and_messages()
    op.execute("""
        CREATE TABLE webhook_deliveries (
            id uuid NOT NULL,
            message_id uuid NOT NULL,
            endpoint_id uuid NOT NULL,
            status text NOT NULL DEFAULT 'waiting',
            attempts integer NOT NULL DEFAULT 0,
            next_attempt_at timestamptz NOT NULL DEFAULT now(),
            last_status_code integer,
            last_error text,
            delivered_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_webhook_deliveries PRIMARY KEY (id),
            CONSTRAINT uq_webhook_deliveries_message_id_endpoint_id UNIQUE (message_id, endpoint_id),
            CONSTRAINT fk_webhook_deliveries_message_id_webhook_messages
                FOREIGN KEY (message_id) REFERENCES webhook_messages (id),
            CONSTRAINT fk_webhook_deliveries_endpoint_id_webhook_endpoints
                FOREIGN KEY (endpoint_id) REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
            CONSTRAINT ck_webhook_deliveries_status CHECK (status IN ('waiting', 'delivered', 'dead'))
        )
    """)
    op.execute("CREATE INDEX ix_webhook_deliveries_endpoint_id_id ON webhook_deliveries (endpoint_id, id)")
    op.execute("""
        CREATE INDEX ix_webhook_deliveries_next_attempt_at ON webhook_deliveries (next_attempt_at) WHERE status = 'waiting'
    """)
    op.execute("""
        CREATE TABLE webhook_attempts (
            id uuid NOT NULL,
            delivery_id uuid NOT NULL,
            status_code integer,
            error text,
            duration_ms integer NOT NULL,
            at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_webhook_attempts PRIMARY KEY (id),
            CONSTRAINT fk_webhook_attempts_delivery_id_webhook_deliveries
                FOREIGN KEY (delivery_id) REFERENCES webhook_deliveries (id) ON DELETE CASCADE
        )
    """)
    op.execute("CREATE INDEX ix_webhook_attempts_delivery_id ON webhook_attempts (delivery_id)")
    _create_alerts()


def _create_alerts() -> None:
    op.execute("""
        CREATE TABLE usage_alerts (
            customer_id uuid NOT NULL,
            kind text NOT NULL,
            period date NOT NULL,
            threshold integer NOT NULL,
            used bigint NOT NULL,
            quota bigint NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_usage_alerts PRIMARY KEY (customer_id, kind, period, threshold),
            CONSTRAINT fk_usage_alerts_customer_id_customer_accounts FOREIGN KEY (customer_id) REFERENCES customer_accounts (id),
            CONSTRAINT ck_usage_alerts_kind CHECK (kind IN ('day', 'month', 'spend'))
        )
    """)


def _create_endpoints_and_messages() -> None:
    op.execute("""
        CREATE TABLE webhook_endpoints (
            id uuid NOT NULL,
            customer_id uuid NOT NULL,
            url text NOT NULL,
            description text NOT NULL,
            events text[],
            is_enabled boolean NOT NULL DEFAULT true,
            sealed_secret bytea NOT NULL,
            sealed_old_secret bytea,
            old_secret_until timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_webhook_endpoints PRIMARY KEY (id),
            CONSTRAINT fk_webhook_endpoints_customer_id_customer_accounts
                FOREIGN KEY (customer_id) REFERENCES customer_accounts (id),
            CONSTRAINT ck_webhook_endpoints_url CHECK (length(url) BETWEEN 1 AND 500),
            CONSTRAINT ck_webhook_endpoints_description CHECK (length(description) <= 200)
        )
    """)
    op.execute("CREATE INDEX ix_webhook_endpoints_customer_id ON webhook_endpoints (customer_id)")
    op.execute("""
        CREATE TABLE webhook_messages (
            id uuid NOT NULL,
            customer_id uuid NOT NULL,
            dedupe_key text NOT NULL,
            type text NOT NULL,
            payload text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_webhook_messages PRIMARY KEY (id),
            CONSTRAINT uq_webhook_messages_dedupe_key UNIQUE (dedupe_key),
            CONSTRAINT fk_webhook_messages_customer_id_customer_accounts
                FOREIGN KEY (customer_id) REFERENCES customer_accounts (id)
        )
    """)


def downgrade() -> None:
    for table in ("usage_alerts", "webhook_attempts", "webhook_deliveries", "webhook_messages", "webhook_endpoints"):
        op.execute(f"DROP TABLE {table}")
