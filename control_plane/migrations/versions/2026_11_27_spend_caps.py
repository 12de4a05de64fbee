"""What a customer wants a month to cost at most."""

from alembic import op

revision = "2026_11_27_spend_caps"
down_revision = "2026_11_27_operators"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE customer_accounts ADD COLUMN spend_cap_cents bigint")
    op.execute("""
        ALTER TABLE customer_accounts
            ADD CONSTRAINT ck_customer_accounts_spend_cap_cents CHECK (spend_cap_cents >= 0) NOT VALID
    """)
    op.execute("ALTER TABLE customer_accounts VALIDATE CONSTRAINT ck_customer_accounts_spend_cap_cents")


def downgrade() -> None:
    op.execute("ALTER TABLE customer_accounts DROP COLUMN spend_cap_cents")
