"""What a key may be used for and from where, test keys, rotation, and when a key was last used; the mark of test requests."""

from alembic import op

revision = "2026_11_27_key_scopes"
down_revision = "2026_11_27_audit_and_mail"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Expand only: the release before knows none of these. NULL in a list means: anything the customer may.
    op.execute("""
        ALTER TABLE api_keys
            ADD COLUMN is_test boolean NOT NULL DEFAULT false,
            ADD COLUMN robots text[],
            ADD COLUMN policies text[],
            ADD COLUMN allowed_ips text[],
            ADD COLUMN rotated_from uuid,
            ADD COLUMN last_used_at timestamptz,
            ADD CONSTRAINT uq_api_keys_rotated_from UNIQUE (rotated_from),
            ADD CONSTRAINT fk_api_keys_rotated_from_api_keys FOREIGN KEY (rotated_from) REFERENCES api_keys (id)
    """)
    op.execute("ALTER TABLE inference_logs ADD COLUMN is_test boolean NOT NULL DEFAULT false")
    # NOT VALID: every row that is there has the default, so there is nothing to look for under this lock.
    op.execute("""
        ALTER TABLE inference_logs
            ADD CONSTRAINT ck_inference_logs_no_test_is_billed CHECK (NOT (is_test AND is_billable)) NOT VALID
    """)


def downgrade() -> None:
    op.execute("ALTER TABLE inference_logs DROP CONSTRAINT ck_inference_logs_no_test_is_billed")
    op.execute("ALTER TABLE inference_logs DROP COLUMN is_test")
    op.execute("""
        ALTER TABLE api_keys
            DROP COLUMN is_test, DROP COLUMN robots, DROP COLUMN policies, DROP COLUMN allowed_ips,
            DROP COLUMN rotated_from, DROP COLUMN last_used_at
    """)
