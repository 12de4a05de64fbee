"""What operators have decided about policies and replicas. A test holds these tables equal to what the migrations make.

Absence is the usual case: a policy without a row is enabled, open to everybody, and served in the version of its own folder.
"""

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
    Uuid,
    func,
    text,
)

from control_plane.db import metadata

# One row. Every change raises `revision` first, which also puts changes in a row; `bundles` counts the wishes to read the model
# repository again.
fleet_revision = Table(
    "fleet_revision",
    metadata,
    Column("is_only_row", Boolean, primary_key=True, server_default=text("true")),
    Column("revision", BigInteger, nullable=False, server_default=text("0")),
    Column("bundles", BigInteger, nullable=False, server_default=text("0")),
    CheckConstraint("is_only_row", name="is_only_row"),
)

policy_states = Table(
    "policy_states",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("is_enabled", Boolean, nullable=False, server_default=text("true")),
    Column("is_restricted", Boolean, nullable=False, server_default=text("false")),
    Column("is_default", Boolean, nullable=False, server_default=text("false")),
    Column("default_version", Integer),
    CheckConstraint("length(policy) BETWEEN 1 AND 128", name="policy"),
)

Index("uq_policy_states_is_default", policy_states.c.is_default, unique=True, postgresql_where=policy_states.c.is_default)

disabled_policy_versions = Table(
    "disabled_policy_versions",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
)

policy_entitlements = Table(
    "policy_entitlements",
    metadata,
    Column("customer_id", Uuid, ForeignKey("customer_accounts.id"), primary_key=True),
    Column("policy", Text, primary_key=True),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

policy_pins = Table(
    "policy_pins",
    metadata,
    Column("customer_id", Uuid, ForeignKey("customer_accounts.id"), primary_key=True),
    Column("policy", Text, primary_key=True),
    Column("version", Integer, nullable=False),
)

draining_replicas = Table(
    "draining_replicas",
    metadata,
    Column("address", Text, primary_key=True),
    CheckConstraint("length(address) BETWEEN 1 AND 255", name="address"),
)
