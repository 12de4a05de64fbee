"""Which days of the log lie in object storage, and the corrections that reconciliation made."""

from alembic import op

revision = "2026_11_27_archive"
down_revision = "2026_11_27_spend_caps"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The hashes are kept here too: whoever can change the objects cannot change what they are held against.
    op.execute("""
        CREATE TABLE usage_archive (
            day date NOT NULL,
            frozen_at timestamptz NOT NULL DEFAULT now(),
            object_key text,
            sha256 bytea,
            size_bytes bigint,
            requests bigint,
            billable_requests bigint,
            exported_at timestamptz,
            manifest_sha256 bytea,
            dropped_at timestamptz,
            CONSTRAINT pk_usage_archive PRIMARY KEY (day),
            CONSTRAINT ck_usage_archive_exported CHECK (
                (exported_at IS NULL) = (object_key IS NULL) AND (exported_at IS NULL) = (sha256 IS NULL)
                AND (exported_at IS NULL) = (size_bytes IS NULL) AND (exported_at IS NULL) = (requests IS NULL)
                AND (exported_at IS NULL) = (billable_requests IS NULL)
            ),
            CONSTRAINT ck_usage_archive_dropped_only_after_its_manifest CHECK (
                dropped_at IS NULL OR (exported_at IS NOT NULL AND manifest_sha256 IS NOT NULL)
            )
        )
    """)
    op.execute("""
        CREATE TABLE usage_corrections (
            id bigint GENERATED ALWAYS AS IDENTITY,
            what text NOT NULL,
            customer_id uuid NOT NULL,
            starts_on date NOT NULL,
            before jsonb NOT NULL,
            after jsonb NOT NULL,
            corrected_by text NOT NULL,
            corrected_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_usage_corrections PRIMARY KEY (id),
            CONSTRAINT fk_usage_corrections_customer_id_customer_accounts FOREIGN KEY (customer_id) REFERENCES customer_accounts (id),
            CONSTRAINT ck_usage_corrections_what CHECK (what IN ('usage_days', 'usage_months', 'month_counter'))
        )
    """)
    op.execute("CREATE INDEX ix_usage_corrections_corrected_at ON usage_corrections (corrected_at)")


def downgrade() -> None:
    op.execute("DROP TABLE usage_corrections")
    op.execute("DROP TABLE usage_archive")
