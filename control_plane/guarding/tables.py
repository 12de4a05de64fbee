"""The tables of customers' safety settings and of who changed them. A test holds them equal to what the migrations make."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from control_plane.db import metadata

PRESETS = "preset IN ('reduced', 'manufacturer')"

safety_settings = Table(
    "safety_settings",
    metadata,
    Column("customer_id", Uuid, ForeignKey("customer_accounts.id"), primary_key=True),
    Column("version", Integer, nullable=False),  # grows with every change, also when the settings are cleared
    Column("document", JSONB, nullable=False),
    Column("preset", Text),  # opted in by an operator
    Column("is_cleared", Boolean, nullable=False, server_default=text("false")),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("version > 0", name="version"),
    CheckConstraint(PRESETS, name="preset"),
)

safety_settings_changes = Table(
    "safety_settings_changes",
    metadata,
    Column("customer_id", Uuid, ForeignKey("customer_accounts.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("before", JSONB, nullable=False),  # {"settings": …, "preset": …}
    Column("after", JSONB, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("customer_id", "version"),
)
