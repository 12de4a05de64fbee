"""Billing: prices, subscriptions, rated usage, invoices with their numbers, credit notes, payments and a double-entry ledger."""

from alembic import op

revision = "2026_11_27_billing"
down_revision = "2026_11_23_statuses_validated"
branch_labels = None
depends_on = None

_TIERS = "'free', 'pro', 'enterprise'"
_CURRENCY = "currency ~ '^[A-Z]{3}$'"
_FIRST_OF_MONTH = "extract(day FROM {0}) = 1"

_TABLES = (
    # A copy of billing/prices.toml for SQL; a version, once here, can only stay as it is.
    f"""
    CREATE TABLE price_versions (
        version text NOT NULL,
        tier text NOT NULL,
        effective_from date NOT NULL,
        currency text NOT NULL,
        monthly_cents bigint NOT NULL,
        per_request_cents numeric NOT NULL,
        CONSTRAINT pk_price_versions PRIMARY KEY (version, tier),
        CONSTRAINT uq_price_versions_effective_from_tier UNIQUE (effective_from, tier),
        CONSTRAINT ck_price_versions_tier CHECK (tier IN ({_TIERS})),
        CONSTRAINT ck_price_versions_currency CHECK ({_CURRENCY}),
        CONSTRAINT ck_price_versions_monthly_cents CHECK (monthly_cents >= 0),
        CONSTRAINT ck_price_versions_per_request_cents CHECK (per_request_cents >= 0)
    )
    """,
    # What a customer has from an instant on, until their next row. NULL prices: the price list's.
    f"""
    CREATE TABLE subscriptions (
        id uuid NOT NULL,
        customer_id uuid NOT NULL,
        effective_at timestamptz NOT NULL,
        tier text NOT NULL,
        is_active boolean NOT NULL DEFAULT true,
        currency text,
        monthly_cents bigint,
        per_request_cents numeric,
        committed_requests bigint,
        overage_per_request_cents numeric,
        discount_basis_points integer NOT NULL DEFAULT 0,
        reason text,
        created_by text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        canceled_by text,
        canceled_at timestamptz,
        CONSTRAINT pk_subscriptions PRIMARY KEY (id),
        CONSTRAINT fk_subscriptions_customer_id_customer_accounts FOREIGN KEY (customer_id) REFERENCES customer_accounts (id),
        CONSTRAINT ck_subscriptions_tier CHECK (tier IN ({_TIERS})),
        CONSTRAINT ck_subscriptions_currency CHECK ({_CURRENCY}),
        CONSTRAINT ck_subscriptions_own_currency_has_own_prices CHECK (
            currency IS NULL OR (monthly_cents IS NOT NULL AND per_request_cents IS NOT NULL)
        ),
        CONSTRAINT ck_subscriptions_monthly_cents CHECK (monthly_cents >= 0),
        CONSTRAINT ck_subscriptions_per_request_cents CHECK (per_request_cents >= 0),
        CONSTRAINT ck_subscriptions_committed_requests CHECK (committed_requests > 0),
        CONSTRAINT ck_subscriptions_overage_per_request_cents CHECK (overage_per_request_cents >= 0),
        CONSTRAINT ck_subscriptions_discount_basis_points CHECK (discount_basis_points BETWEEN 0 AND 10000),
        CONSTRAINT ck_subscriptions_canceled CHECK ((canceled_at IS NULL) = (canceled_by IS NULL))
    )
    """,
    # A correction of metered usage: counts like usage of that day. Never changed; a mistake is corrected by another one.
    """
    CREATE TABLE usage_adjustments (
        id uuid NOT NULL,
        customer_id uuid NOT NULL,
        day date NOT NULL,
        quantity bigint NOT NULL,
        reason text NOT NULL,
        created_by text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_usage_adjustments PRIMARY KEY (id),
        CONSTRAINT fk_usage_adjustments_customer_id_customer_accounts FOREIGN KEY (customer_id) REFERENCES customer_accounts (id),
        CONSTRAINT ck_usage_adjustments_quantity CHECK (quantity <> 0),
        CONSTRAINT ck_usage_adjustments_reason CHECK (length(reason) BETWEEN 1 AND 500)
    )
    """,
    f"""
    CREATE TABLE closed_months (
        month date NOT NULL,
        invoices integer NOT NULL,
        closed_by text NOT NULL,
        closed_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_closed_months PRIMARY KEY (month),
        CONSTRAINT ck_closed_months_month CHECK ({_FIRST_OF_MONTH.format("month")})
    )
    """,
    """
    CREATE TABLE invoice_sequences (
        legal_entity text NOT NULL,
        kind text NOT NULL,
        last_number bigint NOT NULL DEFAULT 0,
        CONSTRAINT pk_invoice_sequences PRIMARY KEY (legal_entity, kind),
        CONSTRAINT ck_invoice_sequences_kind CHECK (kind IN ('invoice', 'credit_note'))
    )
    """,
)

_INVOICES = (
    # `seller`, `buyer` and `prices` are as they were on that day; the document is written from nothing else.
    f"""
    CREATE TABLE invoices (
        id uuid NOT NULL,
        customer_id uuid NOT NULL,
        month date NOT NULL,
        currency text NOT NULL,
        state text NOT NULL DEFAULT 'draft',
        legal_entity text NOT NULL,
        sequence_number bigint,
        number text,
        total_cents bigint NOT NULL,
        seller jsonb NOT NULL,
        buyer jsonb NOT NULL,
        prices jsonb NOT NULL,
        content_hash bytea,
        created_at timestamptz NOT NULL DEFAULT now(),
        finalized_at timestamptz,
        due_on date,
        paid_at timestamptz,
        voided_at timestamptz,
        uncollectible_at timestamptz,
        CONSTRAINT pk_invoices PRIMARY KEY (id),
        CONSTRAINT uq_invoices_customer_id_month_currency UNIQUE (customer_id, month, currency),
        CONSTRAINT uq_invoices_legal_entity_sequence_number UNIQUE (legal_entity, sequence_number),
        CONSTRAINT uq_invoices_number UNIQUE (number),
        CONSTRAINT fk_invoices_customer_id_customer_accounts FOREIGN KEY (customer_id) REFERENCES customer_accounts (id),
        CONSTRAINT ck_invoices_month CHECK ({_FIRST_OF_MONTH.format("month")}),
        CONSTRAINT ck_invoices_currency CHECK ({_CURRENCY}),
        CONSTRAINT ck_invoices_state CHECK (state IN ('draft', 'finalized', 'paid', 'void', 'uncollectible')),
        CONSTRAINT ck_invoices_total_cents CHECK (total_cents >= 0),
        CONSTRAINT ck_invoices_draft_has_no_number CHECK (
            (state = 'draft') = (sequence_number IS NULL) AND (state = 'draft') = (number IS NULL)
            AND (state = 'draft') = (content_hash IS NULL) AND (state = 'draft') = (finalized_at IS NULL)
            AND (state = 'draft') = (due_on IS NULL)
        ),
        CONSTRAINT ck_invoices_paid_at CHECK (state <> 'paid' OR paid_at IS NOT NULL),
        CONSTRAINT ck_invoices_voided_at CHECK (state <> 'void' OR voided_at IS NOT NULL),
        CONSTRAINT ck_invoices_uncollectible_at CHECK (state <> 'uncollectible' OR uncollectible_at IS NOT NULL)
    )
    """,
    # `service_month` is the month in which it was used, earlier than the invoice's where `is_late`. Quantity: requests.
    f"""
    CREATE TABLE invoice_lines (
        invoice_id uuid NOT NULL,
        position integer NOT NULL,
        kind text NOT NULL,
        description text NOT NULL,
        service_month date NOT NULL,
        starts_at timestamptz NOT NULL,
        ends_at timestamptz NOT NULL,
        subscription_id uuid,
        tier text,
        price_version text,
        is_late boolean NOT NULL DEFAULT false,
        quantity bigint,
        unit_cents numeric,
        amount_cents bigint NOT NULL,
        CONSTRAINT pk_invoice_lines PRIMARY KEY (invoice_id, position),
        CONSTRAINT fk_invoice_lines_invoice_id_invoices FOREIGN KEY (invoice_id) REFERENCES invoices (id) ON DELETE CASCADE,
        CONSTRAINT fk_invoice_lines_subscription_id_subscriptions FOREIGN KEY (subscription_id) REFERENCES subscriptions (id),
        CONSTRAINT ck_invoice_lines_kind CHECK (kind IN ('fee', 'commitment', 'usage', 'overage', 'discount', 'carried')),
        CONSTRAINT ck_invoice_lines_position CHECK (position > 0),
        CONSTRAINT ck_invoice_lines_service_month CHECK ({_FIRST_OF_MONTH.format("service_month")}),
        CONSTRAINT ck_invoice_lines_ends_at CHECK (ends_at >= starts_at)
    )
    """,
    # How much of a customer's day is settled, under which subscription and by which close. `position` names the invoice line;
    # NULL where there was nothing to pay and so no invoice.
    f"""
    CREATE TABLE rated_usage (
        customer_id uuid NOT NULL,
        day date NOT NULL,
        subscription_id uuid NOT NULL,
        month date NOT NULL,
        quantity bigint NOT NULL,
        is_late boolean NOT NULL,
        invoice_id uuid,
        position integer,
        CONSTRAINT pk_rated_usage PRIMARY KEY (customer_id, day, subscription_id, month),
        CONSTRAINT fk_rated_usage_customer_id_customer_accounts FOREIGN KEY (customer_id) REFERENCES customer_accounts (id),
        CONSTRAINT fk_rated_usage_subscription_id_subscriptions FOREIGN KEY (subscription_id) REFERENCES subscriptions (id),
        CONSTRAINT fk_rated_usage_invoice_id_position_invoice_lines
            FOREIGN KEY (invoice_id, position) REFERENCES invoice_lines (invoice_id, position) ON DELETE CASCADE,
        CONSTRAINT ck_rated_usage_month CHECK ({_FIRST_OF_MONTH.format("month")} AND day < month + interval '1 month'),
        CONSTRAINT ck_rated_usage_is_late CHECK (is_late = (day < month)),
        CONSTRAINT ck_rated_usage_quantity CHECK (quantity <> 0),
        CONSTRAINT ck_rated_usage_position CHECK ((invoice_id IS NULL) = (position IS NULL))
    )
    """,
    # Who moved an invoice from state to state, and when.
    """
    CREATE TABLE invoice_transitions (
        invoice_id uuid NOT NULL,
        to_state text NOT NULL,
        from_state text NOT NULL,
        at timestamptz NOT NULL DEFAULT now(),
        by text NOT NULL,
        reason text,
        CONSTRAINT pk_invoice_transitions PRIMARY KEY (invoice_id, to_state),
        CONSTRAINT fk_invoice_transitions_invoice_id_invoices FOREIGN KEY (invoice_id) REFERENCES invoices (id)
    )
    """,
    """
    CREATE TABLE invoice_documents (
        invoice_id uuid NOT NULL,
        media_type text NOT NULL,
        content bytea NOT NULL,
        sha256 bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_invoice_documents PRIMARY KEY (invoice_id, media_type),
        CONSTRAINT fk_invoice_documents_invoice_id_invoices FOREIGN KEY (invoice_id) REFERENCES invoices (id)
    )
    """,
)

_MONEY = (
    """
    CREATE TABLE credit_notes (
        id uuid NOT NULL,
        invoice_id uuid NOT NULL,
        customer_id uuid NOT NULL,
        legal_entity text NOT NULL,
        sequence_number bigint NOT NULL,
        number text NOT NULL,
        amount_cents bigint NOT NULL,
        currency text NOT NULL,
        reason text NOT NULL,
        seller jsonb NOT NULL,
        buyer jsonb NOT NULL,
        content_hash bytea NOT NULL,
        created_by text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_credit_notes PRIMARY KEY (id),
        CONSTRAINT uq_credit_notes_legal_entity_sequence_number UNIQUE (legal_entity, sequence_number),
        CONSTRAINT uq_credit_notes_number UNIQUE (number),
        CONSTRAINT fk_credit_notes_invoice_id_invoices FOREIGN KEY (invoice_id) REFERENCES invoices (id),
        CONSTRAINT fk_credit_notes_customer_id_customer_accounts FOREIGN KEY (customer_id) REFERENCES customer_accounts (id),
        CONSTRAINT ck_credit_notes_amount_cents CHECK (amount_cents > 0),
        CONSTRAINT ck_credit_notes_reason CHECK (length(reason) BETWEEN 1 AND 500)
    )
    """,
    # `reference` is the payer's bank reference or the provider's id: the same payment told twice is one payment.
    """
    CREATE TABLE payments (
        id uuid NOT NULL,
        invoice_id uuid NOT NULL,
        customer_id uuid NOT NULL,
        method text NOT NULL,
        reference text NOT NULL,
        amount_cents bigint NOT NULL,
        currency text NOT NULL,
        received_at timestamptz NOT NULL,
        recorded_by text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_payments PRIMARY KEY (id),
        CONSTRAINT uq_payments_method_reference UNIQUE (method, reference),
        CONSTRAINT fk_payments_invoice_id_invoices FOREIGN KEY (invoice_id) REFERENCES invoices (id),
        CONSTRAINT fk_payments_customer_id_customer_accounts FOREIGN KEY (customer_id) REFERENCES customer_accounts (id),
        CONSTRAINT ck_payments_amount_cents CHECK (amount_cents > 0),
        CONSTRAINT ck_payments_method CHECK (length(method) BETWEEN 1 AND 50),
        CONSTRAINT ck_payments_reference CHECK (length(reference) BETWEEN 1 AND 200)
    )
    """,
    # Debits are positive, credits negative; the entries of one transaction add up to zero.
    """
    CREATE TABLE ledger_entries (
        id bigint GENERATED ALWAYS AS IDENTITY,
        transaction_id uuid NOT NULL,
        kind text NOT NULL,
        account text NOT NULL,
        amount_cents bigint NOT NULL,
        currency text NOT NULL,
        customer_id uuid NOT NULL,
        invoice_id uuid NOT NULL,
        credit_note_id uuid,
        payment_id uuid,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_ledger_entries PRIMARY KEY (id),
        CONSTRAINT fk_ledger_entries_customer_id_customer_accounts FOREIGN KEY (customer_id) REFERENCES customer_accounts (id),
        CONSTRAINT fk_ledger_entries_invoice_id_invoices FOREIGN KEY (invoice_id) REFERENCES invoices (id),
        CONSTRAINT fk_ledger_entries_credit_note_id_credit_notes FOREIGN KEY (credit_note_id) REFERENCES credit_notes (id),
        CONSTRAINT fk_ledger_entries_payment_id_payments FOREIGN KEY (payment_id) REFERENCES payments (id),
        CONSTRAINT ck_ledger_entries_kind CHECK (
            kind IN ('finalized', 'payment', 'credit_note', 'refund', 'void', 'uncollectible')
        ),
        CONSTRAINT ck_ledger_entries_account CHECK (
            account IN ('receivable', 'cash', 'revenue_fees', 'revenue_usage', 'bad_debt', 'customer_credit')
        ),
        CONSTRAINT ck_ledger_entries_amount_cents CHECK (amount_cents <> 0)
    )
    """,
)

_INDEXES = (
    "CREATE INDEX ix_subscriptions_customer_id_effective_at ON subscriptions (customer_id, effective_at)",
    "CREATE INDEX ix_usage_adjustments_customer_id_day ON usage_adjustments (customer_id, day)",
    "CREATE INDEX ix_invoices_month ON invoices (month)",
    "CREATE INDEX ix_invoice_lines_subscription_id ON invoice_lines (subscription_id)",
    "CREATE INDEX ix_rated_usage_invoice_id ON rated_usage (invoice_id)",
    "CREATE INDEX ix_credit_notes_invoice_id ON credit_notes (invoice_id)",
    "CREATE INDEX ix_payments_invoice_id ON payments (invoice_id)",
    "CREATE INDEX ix_ledger_entries_transaction_id ON ledger_entries (transaction_id)",
    "CREATE INDEX ix_ledger_entries_invoice_id ON ledger_entries (invoice_id)",
    "CREATE INDEX ix_ledger_entries_customer_id_account ON ledger_entries (customer_id, account)",
)

_PRICES = """
    INSERT INTO price_versions VALUES
        ('2025-01-01', 'free', '2025-01-01', 'USD', 0, 0),
        ('2025-01-01', 'pro', '2025-01-01', 'USD', 50000, 0),
        ('2025-01-01', 'enterprise', '2025-01-01', 'USD', 250000, 1)
"""


def upgrade() -> None:
    for statement in (*_TABLES, *_INVOICES, *_MONEY, *_INDEXES, _PRICES):
        op.execute(statement)


def downgrade() -> None:
    for table in (
        "ledger_entries",
        "payments",
        "credit_notes",
        "invoice_documents",
        "invoice_transitions",
        "rated_usage",
        "invoice_lines",
        "invoices",
        "invoice_sequences",
        "closed_months",
        "usage_adjustments",
        "subscriptions",
        "price_versions",
    ):
        op.execute(f"DROP TABLE {table}")
