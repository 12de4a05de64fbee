"""How long a customer's requests may take that name no deadline of their own."""

from alembic import op

revision = "2026_11_27_customer_deadline"
down_revision = "2026_11_27_archive"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE customer_accounts ADD COLUMN deadline_ms integer")
    op.execute("""
        ALTER TABLE customer_accounts
            ADD CONSTRAINT ck_customer_accounts_deadline_ms CHECK (deadline_ms BETWEEN 1 AND 600000) NOT VALID
    """)
    op.execute("ALTER TABLE customer_accounts VALIDATE CONSTRAINT ck_customer_accounts_deadline_ms")


def downgrade() -> None:
    op.execute("ALTER TABLE customer_accounts DROP COLUMN deadline_ms")
