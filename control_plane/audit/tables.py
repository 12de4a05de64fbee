"""The table of the audit log. The database itself refuses to change or delete its rows (a trigger; see the migration)."""

from sqlalchemy import CheckConstraint, Column, DateTime, Index, Table, Text, Uuid, func
from sqlalchemy.dialects.postgresql import JSONB

from control_plane.db import metadata

# No foreign keys: the log outlives what it tells about.
audit_log = Table(
    "audit_log",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("customer_id", Uuid),  # whose affair it was; NULL: the operator's own
    Column("before", JSONB),
    Column("after", JSONB),
    Column("request_id", Text),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("length(actor) BETWEEN 1 AND 200", name="actor"),
    CheckConstraint("length(action) BETWEEN 1 AND 100", name="action"),
    CheckConstraint("length(target) BETWEEN 1 AND 200", name="target"),
)

Index("ix_audit_log_customer_id_id", audit_log.c.customer_id, audit_log.c.id)
Index("ix_audit_log_target_id", audit_log.c.target, audit_log.c.id)
