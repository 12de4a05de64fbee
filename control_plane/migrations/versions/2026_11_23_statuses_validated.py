"""Looks at the rows that the constraint of the migration before has not seen, without keeping anybody from writing."""

from alembic import op

revision = "2026_11_23_statuses_validated"
down_revision = "2026_11_23_safety_settings"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE inference_logs VALIDATE CONSTRAINT ck_inference_logs_status")


def downgrade() -> None:
    pass
