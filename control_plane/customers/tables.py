"""The table of customers. A test holds it equal to what the migrations make. Knows no verb."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)

from control_plane.db import metadata

customer_accounts = Table(
    "customer_accounts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("company_name", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("is_zero_retention", Boolean, nullable=False, server_default=text("false")),
    # Overrides of what the tier allows; NULL means as the tier says.
    Column("per_minute", Integer),
    Column("per_day", Integer),
    Column("per_month", Integer),
    Column("concurrency", Integer),
    Column("spend_cap_cents", BigInteger),  # what a month may cost at most, fee included; NULL: no cap
    Column("deadline_ms", Integer),  # of a request that names none; NULL: the service's
    # What may be kept of requests. `is_zero_retention` says 'zero' to the release before; the verbs keep them in step.
    Column("data_policy", Text, nullable=False, server_default=text("'standard'")),
    Column("data_policy_version", Integer, nullable=False, server_default=text("1")),
    Column("data_consent_id", Uuid),
    Column("data_keep_days", Integer),  # of pictures; NULL: as the policy says
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("length(company_name) BETWEEN 1 AND 200", name="company_name"),
    CheckConstraint("length(email) BETWEEN 3 AND 254", name="email"),
    CheckConstraint("tier IN ('free', 'pro', 'enterprise')", name="tier"),
    CheckConstraint("per_minute > 0", name="per_minute"),
    CheckConstraint("per_day > 0", name="per_day"),
    CheckConstraint("per_month > 0", name="per_month"),
    CheckConstraint("concurrency > 0", name="concurrency"),
    CheckConstraint("spend_cap_cents >= 0", name="spend_cap_cents"),
    CheckConstraint("deadline_ms BETWEEN 1 AND 600000", name="deadline_ms"),
    CheckConstraint("data_policy IN ('zero', 'standard', 'debug', 'train')", name="data_policy"),
    CheckConstraint("data_keep_days BETWEEN 1 AND 3650", name="data_keep_days"),
    CheckConstraint("data_policy <> 'train' OR data_consent_id IS NOT NULL", name="train_has_consent"),
)

# Who agreed to which policy, when: one row per change, never changed. Its id is stamped on whatever is kept under it.
data_consents = Table(
    "data_consents",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("customer_id", Uuid, ForeignKey("customer_accounts.id"), nullable=False),
    Column("policy", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("keep_days", Integer),
    Column("given_by", Text, nullable=False),
    Column("given_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    UniqueConstraint("customer_id", "version"),
    CheckConstraint("policy IN ('zero', 'standard', 'debug', 'train')", name="policy"),
    CheckConstraint("length(given_by) BETWEEN 1 AND 200", name="given_by"),
)

Index("uq_customer_accounts_email", func.lower(customer_accounts.c.email), unique=True)
