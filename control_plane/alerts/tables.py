"""The table of alerts that were given: its key is what makes each of them happen once."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    func,
)

from control_plane.db import metadata

usage_alerts = Table(
    "usage_alerts",
    metadata,
    Column("customer_id", Uuid, ForeignKey("customer_accounts.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("period", Date, nullable=False),  # the day, or the first of the month
    Column("threshold", Integer, nullable=False),  # per cent
    Column("used", BigInteger, nullable=False),
    Column("quota", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("customer_id", "kind", "period", "threshold"),
    CheckConstraint("kind IN ('day', 'month', 'spend')", name="kind"),
)
