"""The table of customers. A test holds it equal to what the migrations make. Knows no verb."""

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, DateTime, Index, Integer, Table, Text, Uuid, func, text

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
)

Index("uq_customer_accounts_email", func.lower(customer_accounts.c.email), unique=True)
