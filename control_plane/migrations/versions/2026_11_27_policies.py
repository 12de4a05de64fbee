"""What operators decide about policies, their versions, who may use them, and which Triton replicas drain."""

from alembic import op

revision = "2026_11_27_policies"
down_revision = "2026_11_27_customer_deadline"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE fleet_revision (
            is_only_row boolean NOT NULL DEFAULT true,
            revision bigint NOT NULL DEFAULT 0,
            bundles bigint NOT NULL DEFAULT 0,
            CONSTRAINT pk_fleet_revision PRIMARY KEY (is_only_row),
            CONSTRAINT ck_fleet_revision_is_only_row CHECK (is_only_row)
        )
    """)
    op.execute("INSERT INTO fleet_revision DEFAULT VALUES")
    op.execute("""
        CREATE TABLE policy_states (
            policy text NOT NULL,
            is_enabled boolean NOT NULL DEFAULT true,
            is_restricted boolean NOT NULL DEFAULT false,
            is_default boolean NOT NULL DEFAULT false,
            default_version integer,
            CONSTRAINT pk_policy_states PRIMARY KEY (policy),
            CONSTRAINT ck_policy_states_policy CHECK (length(policy) BETWEEN 1 AND 128)
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_policy_states_is_default ON policy_states (is_default) WHERE is_default")
    op.execute("""
        CREATE TABLE disabled_policy_versions (
            policy text NOT NULL,
            version integer NOT NULL,
            CONSTRAINT pk_disabled_policy_versions PRIMARY KEY (policy, version)
        )
    """)
    _of_customers("policy_entitlements", "created_at timestamptz NOT NULL DEFAULT now()")
    _of_customers("policy_pins", "version integer NOT NULL")
    op.execute("""
        CREATE TABLE draining_replicas (
            address text NOT NULL,
            CONSTRAINT pk_draining_replicas PRIMARY KEY (address),
            CONSTRAINT ck_draining_replicas_address CHECK (length(address) BETWEEN 1 AND 255)
        )
    """)


def _of_customers(name: str, column: str) -> None:
    op.execute(f"""
        CREATE TABLE {name} (
            customer_id uuid NOT NULL,
            policy text NOT NULL,
            {column},
            CONSTRAINT pk_{name} PRIMARY KEY (customer_id, policy),
            CONSTRAINT fk_{name}_customer_id_customer_accounts FOREIGN KEY (customer_id) REFERENCES customer_accounts (id)
        )
    """)


def downgrade() -> None:
    for name in ("draining_replicas", "policy_pins", "policy_entitlements", "disabled_policy_versions"):
        op.execute(f"DROP TABLE {name}")
    op.execute("DROP TABLE policy_states")
    op.execute("DROP TABLE fleet_revision")
