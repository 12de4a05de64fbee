"""What is captured where, feedback, deletions, and which episodes a dataset was built from."""

from alembic import op

revision = "2026_11_27_training_data"
down_revision = "2026_11_27_dashboards"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_captured()
    _create_parts_and_frames()
    _create_feedback_and_deletions()
    _create_datasets()


def _create_captured() -> None:
    op.execute("""
        CREATE TABLE captured_episodes (
            id uuid NOT NULL,
            customer_id uuid NOT NULL,
            session_key bytea NOT NULL,
            session_id text,
            data_policy text NOT NULL,
            model text NOT NULL,
            robot_type text NOT NULL,
            prefix text NOT NULL,
            state text NOT NULL DEFAULT 'open',
            is_whole boolean NOT NULL,
            frames integer NOT NULL DEFAULT 0,
            first_at timestamptz NOT NULL,
            last_at timestamptz NOT NULL,
            keep_until timestamptz NOT NULL,
            touched_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            manifest_sha256 bytea,
            deleted_at timestamptz,
            deleted_because text,
            CONSTRAINT pk_captured_episodes PRIMARY KEY (id),
            CONSTRAINT fk_captured_episodes_customer_id_customer_accounts
                FOREIGN KEY (customer_id) REFERENCES customer_accounts (id),
            CONSTRAINT ck_captured_episodes_state CHECK (state IN ('open', 'closed', 'deleted'))
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_captured_episodes_open ON captured_episodes (customer_id, session_key) WHERE state = 'open'")
    op.execute("CREATE INDEX ix_captured_episodes_customer_id_session_id ON captured_episodes (customer_id, session_id)")
    op.execute("CREATE INDEX ix_captured_episodes_keep_until ON captured_episodes (keep_until) WHERE state <> 'deleted'")


def _create_parts_and_frames() -> None:
    op.execute("""
        CREATE TABLE captured_parts (
            key text NOT NULL,
            episode_id uuid NOT NULL,
            sha256 bytea NOT NULL,
            size_bytes bigint NOT NULL,
            frames integer NOT NULL,
            summary jsonb NOT NULL,
            CONSTRAINT pk_captured_parts PRIMARY KEY (key),
            CONSTRAINT fk_captured_parts_episode_id_captured_episodes
                FOREIGN KEY (episode_id) REFERENCES captured_episodes (id)
        )
    """)
    op.execute("CREATE INDEX ix_captured_parts_episode_id ON captured_parts (episode_id)")
    op.execute("""
        CREATE TABLE captured_frames (
            request_id uuid NOT NULL,
            episode_id uuid NOT NULL,
            part_key text NOT NULL,
            CONSTRAINT pk_captured_frames PRIMARY KEY (request_id),
            CONSTRAINT fk_captured_frames_episode_id_captured_episodes
                FOREIGN KEY (episode_id) REFERENCES captured_episodes (id)
        )
    """)
    op.execute("CREATE INDEX ix_captured_frames_episode_id ON captured_frames (episode_id)")


def _create_feedback_and_deletions() -> None:
    op.execute("""
        CREATE TABLE feedback (
            id uuid NOT NULL,
            customer_id uuid NOT NULL,
            key_id uuid NOT NULL,
            request_id uuid,
            session_id text,
            outcome text NOT NULL,
            action jsonb,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            CONSTRAINT pk_feedback PRIMARY KEY (id),
            CONSTRAINT fk_feedback_customer_id_customer_accounts FOREIGN KEY (customer_id) REFERENCES customer_accounts (id),
            CONSTRAINT ck_feedback_outcome CHECK (outcome IN ('success', 'failure', 'correction')),
            CONSTRAINT ck_feedback_about CHECK (request_id IS NOT NULL OR session_id IS NOT NULL),
            CONSTRAINT ck_feedback_correction_has_action CHECK ((outcome = 'correction') = (action IS NOT NULL))
        )
    """)
    op.execute("CREATE INDEX ix_feedback_customer_id_session_id ON feedback (customer_id, session_id)")
    op.execute("CREATE INDEX ix_feedback_customer_id_request_id ON feedback (customer_id, request_id)")
    op.execute("""
        CREATE TABLE data_deletions (
            id uuid NOT NULL,
            customer_id uuid NOT NULL,
            session_id text,
            request_id uuid,
            asked_by text NOT NULL,
            asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            proved_at timestamptz,
            proof jsonb,
            CONSTRAINT pk_data_deletions PRIMARY KEY (id),
            CONSTRAINT fk_data_deletions_customer_id_customer_accounts
                FOREIGN KEY (customer_id) REFERENCES customer_accounts (id),
            CONSTRAINT ck_data_deletions_one_thing CHECK (session_id IS NULL OR request_id IS NULL)
        )
    """)
    op.execute("CREATE INDEX ix_data_deletions_customer_id ON data_deletions (customer_id)")


def _create_datasets() -> None:
    op.execute("""
        CREATE TABLE datasets (
            id uuid NOT NULL,
            place text NOT NULL,
            asked jsonb NOT NULL,
            episodes integer NOT NULL DEFAULT 0,
            frames integer NOT NULL DEFAULT 0,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            finished_at timestamptz,
            CONSTRAINT pk_datasets PRIMARY KEY (id)
        )
    """)
    op.execute("""
        CREATE TABLE dataset_members (
            dataset_id uuid NOT NULL,
            episode_id uuid NOT NULL,
            split text NOT NULL,
            tombstoned_at timestamptz,
            CONSTRAINT pk_dataset_members PRIMARY KEY (dataset_id, episode_id),
            CONSTRAINT fk_dataset_members_dataset_id_datasets FOREIGN KEY (dataset_id) REFERENCES datasets (id),
            CONSTRAINT fk_dataset_members_episode_id_captured_episodes
                FOREIGN KEY (episode_id) REFERENCES captured_episodes (id)
        )
    """)
    op.execute("CREATE INDEX ix_dataset_members_episode_id ON dataset_members (episode_id)")


def downgrade() -> None:
    tables = ("dataset_members", "datasets", "data_deletions", "feedback", "captured_frames", "captured_parts", "captured_episodes")
    for table in tables:
        op.execute(f"DROP TABLE {table}")
