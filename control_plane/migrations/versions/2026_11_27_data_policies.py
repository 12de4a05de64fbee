"""What may be kept of requests, per customer and key, and who agreed to it when."""

from alembic import op

revision = "2026_11_27_data_policies"
down_revision = "2026_11_27_dead_indexes"
branch_labels = None
depends_on = None

_POLICIES = "('zero', 'standard', 'debug', 'train')"


def upgrade() -> None:
    # Expand: the release before goes on with is_zero_retention, which this one reads too and keeps in step.
    op.execute("""
        ALTER TABLE customer_accounts
            ADD COLUMN data_policy text NOT NULL DEFAULT 'standard',
            ADD COLUMN data_policy_version integer NOT NULL DEFAULT 1,
            ADD COLUMN data_consent_id uuid,
            ADD COLUMN data_keep_days integer
    """)
    op.execute(f"""
        ALTER TABLE customer_accounts
            ADD CONSTRAINT ck_customer_accounts_data_policy CHECK (data_policy IN {_POLICIES}) NOT VALID,
            ADD CONSTRAINT ck_customer_accounts_data_keep_days CHECK (data_keep_days BETWEEN 1 AND 3650) NOT VALID,
            ADD CONSTRAINT ck_customer_accounts_train_has_consent
                CHECK (data_policy <> 'train' OR data_consent_id IS NOT NULL) NOT VALID
    """)
    op.execute("UPDATE customer_accounts SET data_policy = 'zero' WHERE is_zero_retention")
    for name in ("data_policy", "data_keep_days", "train_has_consent"):
        op.execute(f"ALTER TABLE customer_accounts VALIDATE CONSTRAINT ck_customer_accounts_{name}")
    op.execute("ALTER TABLE api_keys ADD COLUMN data_policy text")
    op.execute(f"ALTER TABLE api_keys ADD CONSTRAINT ck_api_keys_data_policy CHECK (data_policy IN {_POLICIES}) NOT VALID")
    op.execute("ALTER TABLE api_keys VALIDATE CONSTRAINT ck_api_keys_data_policy")
    op.execute(f"""
        CREATE TABLE data_consents (
            id uuid NOT NULL,
            customer_id uuid NOT NULL,
            policy text NOT NULL,
            version integer NOT NULL,
            keep_days integer,
            given_by text NOT NULL,
            given_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            CONSTRAINT pk_data_consents PRIMARY KEY (id),
            CONSTRAINT fk_data_consents_customer_id_customer_accounts
                FOREIGN KEY (customer_id) REFERENCES customer_accounts (id),
            CONSTRAINT uq_data_consents_customer_id_version UNIQUE (customer_id, version),
            CONSTRAINT ck_data_consents_policy CHECK (policy IN {_POLICIES}),
            CONSTRAINT ck_data_consents_given_by CHECK (length(given_by) BETWEEN 1 AND 200)
        )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE data_consents")
    op.execute("ALTER TABLE api_keys DROP COLUMN data_policy")
    op.execute("""
        ALTER TABLE customer_accounts
            DROP COLUMN data_policy, DROP COLUMN data_policy_version, DROP COLUMN data_consent_id, DROP COLUMN data_keep_days
    """)
