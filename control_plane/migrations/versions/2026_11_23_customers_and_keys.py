"""Customers and their API keys."""

from alembic import op

revision = "2026_11_23_customers_and_keys"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE customer_accounts (
            id uuid PRIMARY KEY,
            company_name text NOT NULL CHECK (company_name <> ''),
            email text NOT NULL CHECK (email <> ''),
            tier text NOT NULL CHECK (tier IN ('free', 'pro', 'enterprise')),
            is_active boolean NOT NULL DEFAULT true,
            is_zero_retention boolean NOT NULL DEFAULT false,
            per_minute integer CHECK (per_minute > 0),
            per_day integer CHECK (per_day > 0),
            per_month integer CHECK (per_month > 0),
            concurrency integer CHECK (concurrency > 0),
            created_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_customer_accounts_email ON customer_accounts (lower(email))")
    op.execute("""
        CREATE TABLE api_keys (
            id uuid PRIMARY KEY,
            customer_id uuid NOT NULL REFERENCES customer_accounts (id),
            digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
            start text NOT NULL,
            name text NOT NULL,
            per_minute integer CHECK (per_minute > 0),
            expires_at timestamptz,
            revoked_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("CREATE INDEX ix_api_keys_customer_id ON api_keys (customer_id)")


def downgrade() -> None:
    op.execute("DROP TABLE api_keys")
    op.execute("DROP TABLE customer_accounts")
