"""Customers' safety settings with their history; the raw action of changed motions and the status of dry runs in the log."""

from alembic import op

revision = "2026_11_23_safety_settings"
down_revision = "2026_11_23_usage"
branch_labels = None
depends_on = None

_STATUSES = "'success', 'refused', 'invalid', 'timeout', 'error'"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE safety_settings (
            customer_id uuid NOT NULL,
            version integer NOT NULL,
            document jsonb NOT NULL,
            preset text,
            is_cleared boolean NOT NULL DEFAULT false,
            changed_by text NOT NULL,
            changed_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_safety_settings PRIMARY KEY (customer_id),
            CONSTRAINT fk_safety_settings_customer_id_customer_accounts FOREIGN KEY (customer_id) REFERENCES customer_accounts (id),
            CONSTRAINT ck_safety_settings_version CHECK (version > 0),
            CONSTRAINT ck_safety_settings_preset CHECK (preset IN ('reduced', 'manufacturer'))
        )
    """)
    op.execute("""
        CREATE TABLE safety_settings_changes (
            customer_id uuid NOT NULL,
            version integer NOT NULL,
            before jsonb NOT NULL,
            after jsonb NOT NULL,
            changed_by text NOT NULL,
            changed_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_safety_settings_changes PRIMARY KEY (customer_id, version),
            CONSTRAINT fk_safety_settings_changes_customer_id_customer_accounts
                FOREIGN KEY (customer_id) REFERENCES customer_accounts (id)
        )
    """)
    # Expand only: the release before writes neither. Arrays of numbers do not compress; EXTERNAL spares the attempt.
    op.execute("ALTER TABLE inference_logs ADD COLUMN raw_action real[] STORAGE EXTERNAL")
    _replace_statuses(f"{_STATUSES}, 'checked'")


def _replace_statuses(statuses: str) -> None:
    op.execute("ALTER TABLE inference_logs DROP CONSTRAINT ck_inference_logs_status")
    # NOT VALID, so that no row is read under this lock; the next migration looks at them while everybody works.
    op.execute(f"ALTER TABLE inference_logs ADD CONSTRAINT ck_inference_logs_status CHECK (status IN ({statuses})) NOT VALID")


def downgrade() -> None:
    op.execute("DELETE FROM inference_logs WHERE status = 'checked'")
    _replace_statuses(_STATUSES)
    op.execute("ALTER TABLE inference_logs DROP COLUMN raw_action")
    op.execute("DROP TABLE safety_settings_changes")
    op.execute("DROP TABLE safety_settings")
