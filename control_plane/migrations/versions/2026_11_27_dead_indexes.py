"""What was given up is counted every few seconds: without an index that would read every mail and delivery ever made."""

from alembic import op

revision = "2026_11_27_dead_indexes"
down_revision = "2026_11_27_signups"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("mails", "webhook_deliveries"):
        op.execute(f"CREATE INDEX ix_{table}_created_at_dead ON {table} (created_at) WHERE status = 'dead'")


def downgrade() -> None:
    for table in ("mails", "webhook_deliveries"):
        op.execute(f"DROP INDEX ix_{table}_created_at_dead")
