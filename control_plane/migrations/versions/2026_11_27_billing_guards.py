"""What must never happen in billing, refused by the database whoever writes; and the history that follows every account."""

from alembic import op

revision = "2026_11_27_billing_guards"
down_revision = "2026_11_27_billing"
branch_labels = None
depends_on = None

_APPEND_ONLY = (
    "price_versions",
    "usage_adjustments",
    "closed_months",
    "invoice_transitions",
    "invoice_documents",
    "credit_notes",
    "payments",
    "ledger_entries",
)

_FUNCTIONS = (
    """
    CREATE FUNCTION billing_open_from() RETURNS timestamptz LANGUAGE sql STABLE AS $$
        SELECT COALESCE((max(month) + interval '1 month') AT TIME ZONE 'UTC', '-infinity') FROM closed_months
    $$
    """,
    """
    CREATE FUNCTION billing_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'rows of % are never changed', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
    END $$
    """,
    """
    CREATE FUNCTION billing_guard_closed_month() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (NEW.month + interval '1 month') AT TIME ZONE 'UTC' > now() THEN
            RAISE EXCEPTION 'the month % is not over', NEW.month USING ERRCODE = 'check_violation';
        END IF;
        IF billing_open_from() <> '-infinity' AND billing_open_from() <> NEW.month::timestamp AT TIME ZONE 'UTC' THEN
            RAISE EXCEPTION 'months are closed one after the other; open from %', billing_open_from() USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE FUNCTION billing_guard_subscription() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' THEN
            RAISE EXCEPTION 'subscriptions are canceled, not deleted' USING ERRCODE = 'restrict_violation';
        END IF;
        IF NEW.effective_at < billing_open_from() THEN
            RAISE EXCEPTION 'the month of % is closed', NEW.effective_at USING ERRCODE = 'check_violation';
        END IF;
        IF TG_OP = 'UPDATE' AND (OLD.canceled_at IS NOT NULL OR
            to_jsonb(NEW) - '{canceled_at,canceled_by}'::text[] <> to_jsonb(OLD) - '{canceled_at,canceled_by}'::text[]) THEN
            RAISE EXCEPTION 'a subscription can only be canceled' USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END $$
    """,
    # Whoever changes an account changes what it is billed for: there is no way around the history.
    """
    CREATE FUNCTION billing_follow_account() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        current subscriptions;
        at timestamptz := clock_timestamp();
        actor text := COALESCE(NULLIF(current_setting('vla.actor', true), ''), 'account');
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO subscriptions (id, customer_id, effective_at, tier, is_active, created_by)
            VALUES (uuidv7(), NEW.id, greatest(NEW.created_at, billing_open_from()), NEW.tier, NEW.is_active, actor);
            RETURN NULL;
        END IF;
        SELECT * INTO current FROM subscriptions
        WHERE customer_id = NEW.id AND effective_at <= at AND canceled_at IS NULL ORDER BY effective_at DESC, id DESC LIMIT 1;
        IF current.tier = NEW.tier AND current.is_active = NEW.is_active THEN
            RETURN NULL;
        END IF;
        IF NOT NEW.is_active THEN
            UPDATE subscriptions SET canceled_at = at, canceled_by = actor
            WHERE customer_id = NEW.id AND effective_at > at AND canceled_at IS NULL;
        END IF;
        IF current.tier IS DISTINCT FROM NEW.tier THEN
            INSERT INTO subscriptions (id, customer_id, effective_at, tier, is_active, created_by)
            VALUES (uuidv7(), NEW.id, at, NEW.tier, NEW.is_active, actor);
        ELSE
            current.id := uuidv7(); current.effective_at := at; current.is_active := NEW.is_active;
            current.reason := NULL; current.created_by := actor; current.created_at := at;
            INSERT INTO subscriptions SELECT current.*;
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION billing_guard_invoice() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' THEN
            IF OLD.state <> 'draft' THEN
                RAISE EXCEPTION 'invoice % is final', OLD.number USING ERRCODE = 'restrict_violation';
            END IF;
            RETURN OLD;
        END IF;
        IF TG_OP = 'INSERT' THEN
            IF NEW.state <> 'draft' THEN
                RAISE EXCEPTION 'an invoice begins as a draft' USING ERRCODE = 'check_violation';
            END IF;
            RETURN NEW;
        END IF;
        PERFORM billing_check_transition(OLD, NEW);
        RETURN NEW;
    END $$
    """,
    """
    CREATE FUNCTION billing_check_transition(old invoices, new invoices) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        moving CONSTANT text[] := '{state,paid_at,voided_at,uncollectible_at}';
        paid bigint;
    BEGIN
        IF old.state <> 'draft' AND to_jsonb(new) - moving <> to_jsonb(old) - moving THEN
            RAISE EXCEPTION 'invoice % is final', old.number USING ERRCODE = 'restrict_violation';
        END IF;
        IF new.state <> old.state AND (old.state, new.state) NOT IN (
            ('draft', 'finalized'), ('finalized', 'paid'), ('finalized', 'void'), ('finalized', 'uncollectible'),
            ('uncollectible', 'paid'), ('uncollectible', 'void')
        ) THEN
            RAISE EXCEPTION 'an invoice cannot go from % to %', old.state, new.state USING ERRCODE = 'check_violation';
        END IF;
        IF old.state = 'draft' AND new.state = 'finalized' AND new.total_cents IS DISTINCT FROM (
            SELECT COALESCE(sum(amount_cents), 0) FROM invoice_lines WHERE invoice_id = new.id
        ) THEN
            RAISE EXCEPTION 'the total is not the sum of the lines' USING ERRCODE = 'check_violation';
        END IF;
        SELECT COALESCE(sum(amount_cents), 0) INTO paid FROM payments WHERE invoice_id = new.id;
        IF old.state <> 'void' AND new.state = 'void' AND paid > 0 THEN
            RAISE EXCEPTION 'something was paid: correct it with a credit note' USING ERRCODE = 'check_violation';
        END IF;
        IF old.state <> 'paid' AND new.state = 'paid' AND new.total_cents > paid + billing_credited(new.id) THEN
            RAISE EXCEPTION 'it is not paid in full' USING ERRCODE = 'check_violation';
        END IF;
    END $$
    """,
    """
    CREATE FUNCTION billing_credited(invoice uuid) RETURNS bigint LANGUAGE sql STABLE AS $$
        SELECT COALESCE(sum(amount_cents), 0)::bigint FROM credit_notes WHERE invoice_id = invoice
    $$
    """,
    """
    CREATE FUNCTION billing_guard_part() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        part record;
        final text;
    BEGIN
        IF TG_OP <> 'INSERT' THEN part := OLD; ELSE part := NEW; END IF;
        SELECT number INTO final FROM invoices WHERE id = part.invoice_id AND state <> 'draft';
        IF final IS NOT NULL THEN
            RAISE EXCEPTION 'invoice % is final', final USING ERRCODE = 'restrict_violation';
        END IF;
        IF TG_OP = 'UPDATE' THEN
            RAISE EXCEPTION 'rows of % are never changed', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
        END IF;
        IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE FUNCTION billing_guard_settled() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        part rated_usage;
    BEGIN
        IF TG_OP = 'DELETE' THEN part := OLD; ELSE part := NEW; END IF;
        IF part.month::timestamp AT TIME ZONE 'UTC' < billing_open_from() THEN
            RAISE EXCEPTION 'the month % is closed', part.month USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN part;
    END $$
    """,
    """
    CREATE FUNCTION billing_guard_credit_note() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        invoice invoices;
    BEGIN
        SELECT * INTO invoice FROM invoices WHERE id = NEW.invoice_id FOR NO KEY UPDATE;
        IF invoice.state NOT IN ('finalized', 'paid', 'uncollectible') OR invoice.currency <> NEW.currency
           OR invoice.customer_id <> NEW.customer_id OR billing_credited(invoice.id) + NEW.amount_cents > invoice.total_cents THEN
            RAISE EXCEPTION 'a credit note takes back at most what its invoice asked for' USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE FUNCTION billing_guard_payment() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        invoice invoices;
        paid bigint;
    BEGIN
        SELECT * INTO invoice FROM invoices WHERE id = NEW.invoice_id FOR NO KEY UPDATE;
        SELECT COALESCE(sum(amount_cents), 0) INTO paid FROM payments WHERE invoice_id = invoice.id;
        IF invoice.state NOT IN ('finalized', 'uncollectible') OR invoice.currency <> NEW.currency
           OR invoice.customer_id <> NEW.customer_id
           OR paid + billing_credited(invoice.id) + NEW.amount_cents > invoice.total_cents THEN
            RAISE EXCEPTION 'a payment is at most what is open' USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE FUNCTION billing_ledger_balances() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM ledger_entries WHERE transaction_id = NEW.transaction_id GROUP BY currency HAVING sum(amount_cents) <> 0)
        THEN
            RAISE EXCEPTION 'transaction % does not balance', NEW.transaction_id USING ERRCODE = 'check_violation';
        END IF;
        RETURN NULL;
    END $$
    """,
)

_TRIGGERS = (
    "closed_month_follows BEFORE INSERT ON closed_months FOR EACH ROW EXECUTE FUNCTION billing_guard_closed_month()",
    "subscription_keeps BEFORE INSERT OR UPDATE OR DELETE ON subscriptions FOR EACH ROW EXECUTE FUNCTION billing_guard_subscription()",
    "account_is_followed AFTER INSERT OR UPDATE OF tier, is_active ON customer_accounts FOR EACH ROW"
    " EXECUTE FUNCTION billing_follow_account()",
    "invoice_keeps BEFORE INSERT OR UPDATE OR DELETE ON invoices FOR EACH ROW EXECUTE FUNCTION billing_guard_invoice()",
    "line_keeps BEFORE INSERT OR UPDATE OR DELETE ON invoice_lines FOR EACH ROW EXECUTE FUNCTION billing_guard_part()",
    "rated_keeps BEFORE INSERT OR UPDATE OR DELETE ON rated_usage FOR EACH ROW EXECUTE FUNCTION billing_guard_part()",
    "settled_keeps BEFORE INSERT OR DELETE ON rated_usage FOR EACH ROW EXECUTE FUNCTION billing_guard_settled()",
    "credit_note_fits BEFORE INSERT ON credit_notes FOR EACH ROW EXECUTE FUNCTION billing_guard_credit_note()",
    "payment_fits BEFORE INSERT ON payments FOR EACH ROW EXECUTE FUNCTION billing_guard_payment()",
)

_BACKFILL = """
    INSERT INTO subscriptions (id, customer_id, effective_at, tier, is_active, created_by)
    SELECT uuidv7(), id, created_at, tier, is_active, 'migration' FROM customer_accounts
"""


def upgrade() -> None:
    for statement in _FUNCTIONS:
        op.execute(statement)
    for trigger in _TRIGGERS:
        op.execute(f"CREATE TRIGGER {trigger}")
    for table in _APPEND_ONLY:
        op.execute(f"""
            CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION billing_append_only()
        """)
    op.execute("""
        CREATE CONSTRAINT TRIGGER ledger_balances AFTER INSERT ON ledger_entries DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION billing_ledger_balances()
    """)
    # The trigger is there already, so an account made meanwhile is in the history; its lock keeps others waiting until the commit.
    op.execute(_BACKFILL)


def downgrade() -> None:
    op.execute("DROP TRIGGER account_is_followed ON customer_accounts")
    for name in (
        "append_only",
        "guard_closed_month",
        "guard_subscription",
        "follow_account",
        "guard_invoice",
        "check_transition",
        "guard_part",
        "guard_settled",
        "guard_credit_note",
        "guard_payment",
        "ledger_balances",
        "credited",
        "open_from",
    ):
        op.execute(f"DROP FUNCTION billing_{name} CASCADE")
