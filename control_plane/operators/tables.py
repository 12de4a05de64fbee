"""The table of operator keys: a digest and a readable start, never the key. A test holds it equal to what the migrations make."""

from sqlalchemy import CheckConstraint, Column, DateTime, LargeBinary, Table, Text, UniqueConstraint, Uuid, func

from control_plane.db import metadata

operator_keys = Table(
    "operator_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("start", Text, nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),  # to the minute
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    UniqueConstraint("digest"),
    CheckConstraint("length(digest) = 32", name="digest"),
    CheckConstraint("length(name) BETWEEN 1 AND 100", name="name"),
    CheckConstraint("role IN ('viewer', 'support', 'admin')", name="role"),
)
