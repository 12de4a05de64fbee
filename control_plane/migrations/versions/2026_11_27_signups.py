"""Requests for access."""

from alembic import op

revision = "2026_11_27_signups"
down_revision = "2026_11_27_webhooks_and_alerts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE signups (
            id uuid NOT NULL,
            company_name text NOT NULL,
            email text NOT NULL,
            use_case text NOT NULL,
            status text NOT NULL DEFAULT 'waiting',
            customer_id uuid,
            decided_by text,
            decided_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_signups PRIMARY KEY (id),
            CONSTRAINT fk_signups_customer_id_customer_accounts FOREIGN KEY (customer_id) REFERENCES customer_accounts (id),
            CONSTRAINT ck_signups_status CHECK (status IN ('waiting', 'approved', 'rejected')),
            CONSTRAINT ck_signups_use_case CHECK (length(use_case) <= 2000)
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_signups_email_waiting ON signups (lower(email)) WHERE status = 'waiting'")


def downgrade() -> None:
    op.execute("DROP TABLE signups")
