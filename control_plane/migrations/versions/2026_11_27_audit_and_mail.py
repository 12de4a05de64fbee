"""The audit log, which the database lets nobody change, and the outbox of e-mails."""

from alembic import op

revision = "2026_11_27_audit_and_mail"
down_revision = "2026_11_27_billing_guards"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE audit_log (
            id uuid NOT NULL,
            actor text NOT NULL,
            action text NOT NULL,
            target text NOT NULL,
            customer_id uuid,
            before jsonb,
            after jsonb,
            request_id text,
            at timestamptz NOT NULL DEFAULT clock_timestamp(),
            CONSTRAINT pk_audit_log PRIMARY KEY (id),
            CONSTRAINT ck_audit_log_actor CHECK (length(actor) BETWEEN 1 AND 200),
            CONSTRAINT ck_audit_log_action CHECK (length(action) BETWEEN 1 AND 100),
            CONSTRAINT ck_audit_log_target CHECK (length(target) BETWEEN 1 AND 200)
        )
    """)
    op.execute("CREATE INDEX ix_audit_log_customer_id_id ON audit_log (customer_id, id)")
    op.execute("CREATE INDEX ix_audit_log_target_id ON audit_log (target, id)")
    op.execute("""
        CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'audit_log is append-only' USING ERRCODE = 'insufficient_privilege';
        END
        $$
    """)
    # ALWAYS: also for a session that calls itself a replica. For each statement, so that it speaks up even where no row matches.
    op.execute("""
        CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
        FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only()
    """)
    op.execute("ALTER TABLE audit_log ENABLE ALWAYS TRIGGER append_only")
    _create_mails()


def _create_mails() -> None:
    op.execute("""
        CREATE TABLE mails (
            id uuid NOT NULL,
            dedupe_key text NOT NULL,
            recipient text NOT NULL,
            subject text NOT NULL,
            text text NOT NULL,
            html text,
            sealed_secret bytea,
            status text NOT NULL DEFAULT 'waiting',
            attempts integer NOT NULL DEFAULT 0,
            next_attempt_at timestamptz NOT NULL DEFAULT now(),
            last_error text,
            sent_by text,
            sent_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_mails PRIMARY KEY (id),
            CONSTRAINT uq_mails_dedupe_key UNIQUE (dedupe_key),
            CONSTRAINT ck_mails_status CHECK (status IN ('waiting', 'sent', 'dead')),
            CONSTRAINT ck_mails_sent_by CHECK (sent_by IN ('smtp', 'file')),
            CONSTRAINT ck_mails_a_sent_one_keeps_no_secret CHECK (status <> 'sent' OR sealed_secret IS NULL)
        )
    """)
    op.execute("CREATE INDEX ix_mails_next_attempt_at ON mails (next_attempt_at) WHERE status = 'waiting'")
    op.execute("""
        CREATE TABLE mail_attachments (
            mail_id uuid NOT NULL,
            position integer NOT NULL,
            filename text NOT NULL,
            media_type text NOT NULL,
            content bytea NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_mail_attachments PRIMARY KEY (mail_id, position),
            CONSTRAINT fk_mail_attachments_mail_id_mails FOREIGN KEY (mail_id) REFERENCES mails (id)
        )
    """)


def downgrade() -> None:
    for table in ("mail_attachments", "mails", "audit_log"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION audit_log_is_append_only")
