"""The table of sign-ups. A test holds it equal to what the migrations make."""

from sqlalchemy import CheckConstraint, Column, DateTime, ForeignKey, Index, Table, Text, Uuid, func, text

from control_plane.db import metadata

signups = Table(
    "signups",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("company_name", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("use_case", Text, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'waiting'")),
    Column("customer_id", Uuid, ForeignKey("customer_accounts.id")),
    Column("decided_by", Text),
    Column("decided_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("status IN ('waiting', 'approved', 'rejected')", name="status"),
    CheckConstraint("length(use_case) <= 2000", name="use_case"),
)

# Asking again while one waits is the same request.
Index("uq_signups_email_waiting", func.lower(signups.c.email), unique=True, postgresql_where=text("status = 'waiting'"))
