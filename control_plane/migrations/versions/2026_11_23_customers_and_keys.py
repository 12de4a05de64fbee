"""Customers and their API keys."""

from alembic import op

revision = "2026_11_23_customers_and_keys"
down_revision = None
branch_labels = None
depends_on = None


# Constraint names follow the MetaData's naming convention, so that the tables in code and in the database can be compared.
_CUSTOMER_ACCOUNTS = """
    CREATE TABLE customer_accounts (
        id uuid NOT NULL,
        company_name text NOT NULL,
        email text NOT NULL,
        tier text NOT NULL,
        is_active boolean NOT NULL DEFAULT true,
        is_zero_retention boolean NOT NULL DEFAULT false,
        per_minute integer,
        per_day integer,
        per_month integer,
        concurrency integer,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_customer_accounts PRIMARY KEY (id),
        CONSTRAINT ck_customer_accounts_company_name CHECK (length(company_name) BETWEEN 1 AND 200),
        CONSTRAINT ck_customer_accounts_email CHECK (length(email) BETWEEN 3 AND 254),
        CONSTRAINT ck_customer_accounts_tier CHECK (tier IN ('free', 'pro', 'enterprise')),
        CONSTRAINT ck_customer_accounts_per_minute CHECK (per_minute > 0),
        CONSTRAINT ck_customer_accounts_per_day CHECK (per_day > 0),
        CONSTRAINT ck_customer_accounts_per_month CHECK (per_month > 0),
        CONSTRAINT ck_customer_accounts_concurrency CHECK (concurrency > 0)
    )
"""
_API_KEYS = """
    CREATE TABLE api_keys (
        id uuid NOT NULL,
        customer_id uuid NOT NULL,
        digest bytea NOT NULL,
        start text NOT NULL,
        name text NOT NULL,
        per_minute integer,
        expires_at timestamptz,
        revoked_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_api_keys PRIMARY KEY (id),
        CONSTRAINT uq_api_keys_digest UNIQUE (digest),
        CONSTRAINT fk_api_keys_customer_id_customer_accounts FOREIGN KEY (customer_id) REFERENCES customer_accounts (id),
        CONSTRAINT ck_api_keys_digest CHECK (length(digest) = 32),
        CONSTRAINT ck_api_keys_start CHECK (length(start) BETWEEN 1 AND 20),
        CONSTRAINT ck_api_keys_name CHECK (length(name) BETWEEN 1 AND 100),
        CONSTRAINT ck_api_keys_per_minute CHECK (per_minute > 0)
    )
"""


def upgrade() -> None:
    op.execute(_CUSTOMER_ACCOUNTS)
    op.execute("CREATE UNIQUE INDEX uq_customer_accounts_email ON customer_accounts (lower(email))")
    op.execute(_API_KEYS)
    op.execute("CREATE INDEX ix_api_keys_customer_id ON api_keys (customer_id)")


def downgrade() -> None:
    op.execute("DROP TABLE api_keys")
    op.execute("DROP TABLE customer_accounts")
