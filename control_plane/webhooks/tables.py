"""The tables of webhooks. Tests hold them equal to what the migrations make."""

from sqlalchemy import (
    ARRAY,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)

from control_plane.db import metadata

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("customer_id", Uuid, ForeignKey("customer_accounts.id"), nullable=False, index=True),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("events", ARRAY(Text)),  # NULL: all of them
    Column("is_enabled", Boolean, nullable=False, server_default=text("true")),
    Column("sealed_secret", LargeBinary, nullable=False),
    Column("sealed_old_secret", LargeBinary),  # signs as well until `old_secret_until`
    Column("old_secret_until", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("length(url) BETWEEN 1 AND 500", name="url"),
    CheckConstraint("length(description) <= 200", name="description"),
)

webhook_messages = Table(
    "webhook_messages",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("customer_id", Uuid, ForeignKey("customer_accounts.id"), nullable=False),
    Column("dedupe_key", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("payload", Text, nullable=False),  # the exact body: it is what is signed
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    UniqueConstraint("dedupe_key"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("message_id", Uuid, ForeignKey("webhook_messages.id"), nullable=False),
    Column("endpoint_id", Uuid, ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), nullable=False),
    Column("status", Text, nullable=False, server_default=text("'waiting'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_attempt_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("last_status_code", Integer),
    Column("last_error", Text),
    Column("delivered_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    UniqueConstraint("message_id", "endpoint_id"),
    CheckConstraint("status IN ('waiting', 'delivered', 'dead')", name="status"),
)

Index("ix_webhook_deliveries_endpoint_id_id", webhook_deliveries.c.endpoint_id, webhook_deliveries.c.id)
Index(
    "ix_webhook_deliveries_next_attempt_at",
    webhook_deliveries.c.next_attempt_at,
    postgresql_where=text("status = 'waiting'"),
)
Index("ix_webhook_deliveries_created_at_dead", webhook_deliveries.c.created_at, postgresql_where=text("status = 'dead'"))

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("delivery_id", Uuid, ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("status_code", Integer),
    Column("error", Text),
    Column("duration_ms", Integer, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
