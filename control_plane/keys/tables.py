"""The table of API keys: a digest and a readable start, never the key. A test holds it equal to what the migrations make."""

from sqlalchemy import (
    ARRAY,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
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

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("customer_id", Uuid, ForeignKey("customer_accounts.id"), nullable=False, index=True),
    Column("digest", LargeBinary, nullable=False),
    Column("start", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("per_minute", Integer),  # a cap of its own, below the customer's
    Column("is_test", Boolean, nullable=False, server_default=text("false")),
    # What it may be used for, and from where; NULL means whatever the customer may, and from anywhere.
    Column("robots", ARRAY(Text)),
    Column("policies", ARRAY(Text)),
    Column("allowed_ips", ARRAY(Text)),
    Column("data_policy", Text),  # of its own, where it keeps less than the customer's
    Column("rotated_from", Uuid, ForeignKey("api_keys.id")),  # the key that this one replaces
    Column("last_used_at", DateTime(timezone=True)),  # to the minute
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    UniqueConstraint("digest"),
    UniqueConstraint("rotated_from"),
    CheckConstraint("length(digest) = 32", name="digest"),
    CheckConstraint("length(start) BETWEEN 1 AND 20", name="start"),
    CheckConstraint("length(name) BETWEEN 1 AND 100", name="name"),
    CheckConstraint("per_minute > 0", name="per_minute"),
    CheckConstraint("data_policy IN ('zero', 'standard', 'debug', 'train')", name="data_policy"),
)
