"""Keys of the operators' API."""

from alembic import op

revision = "2026_11_27_operators"
down_revision = "2026_11_27_key_scopes"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE operator_keys (
            id uuid NOT NULL,
            name text NOT NULL,
            role text NOT NULL,
            digest bytea NOT NULL,
            start text NOT NULL,
            expires_at timestamptz,
            revoked_at timestamptz,
            last_used_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_operator_keys PRIMARY KEY (id),
            CONSTRAINT uq_operator_keys_digest UNIQUE (digest),
            CONSTRAINT ck_operator_keys_digest CHECK (length(digest) = 32),
            CONSTRAINT ck_operator_keys_name CHECK (length(name) BETWEEN 1 AND 100),
            CONSTRAINT ck_operator_keys_role CHECK (role IN ('viewer', 'support', 'admin'))
        )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE operator_keys")
