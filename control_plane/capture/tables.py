"""What is captured where, feedback, deletions, and which episodes a dataset was built from. Pictures are never in the database.

A test holds the tables equal to what the migrations make. Knows no verb.
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
    LargeBinary,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from control_plane.db import metadata

captured_episodes = Table(
    "captured_episodes",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("customer_id", Uuid, ForeignKey("customer_accounts.id"), nullable=False),
    Column("session_key", LargeBinary, nullable=False),  # a hash: which frames belong together
    Column("session_id", Text),
    Column("data_policy", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("robot_type", Text, nullable=False),
    Column("prefix", Text, nullable=False),  # of its objects
    Column("state", Text, nullable=False, server_default=text("'open'")),
    Column("is_whole", Boolean, nullable=False),
    Column("frames", Integer, nullable=False, server_default=text("0")),
    Column("first_at", DateTime(timezone=True), nullable=False),
    Column("last_at", DateTime(timezone=True), nullable=False),
    Column("keep_until", DateTime(timezone=True), nullable=False),
    Column("touched_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("manifest_sha256", LargeBinary),
    Column("deleted_at", DateTime(timezone=True)),
    Column("deleted_because", Text),
    CheckConstraint("state IN ('open', 'closed', 'deleted')", name="state"),
)
Index(
    "uq_captured_episodes_open",
    captured_episodes.c.customer_id,
    captured_episodes.c.session_key,
    unique=True,
    postgresql_where=text("state = 'open'"),
)
Index("ix_captured_episodes_customer_id_session_id", captured_episodes.c.customer_id, captured_episodes.c.session_id)
Index("ix_captured_episodes_keep_until", captured_episodes.c.keep_until, postgresql_where=text("state <> 'deleted'"))

captured_parts = Table(
    "captured_parts",
    metadata,
    Column("key", Text, primary_key=True),
    Column("episode_id", Uuid, ForeignKey("captured_episodes.id"), nullable=False, index=True),
    Column("sha256", LargeBinary, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("frames", Integer, nullable=False),
    Column("summary", JSONB, nullable=False),
)

# One row per frame: what makes twice the same request one frame, and finds a request's frame for whoever deletes it.
captured_frames = Table(
    "captured_frames",
    metadata,
    Column("request_id", Uuid, primary_key=True),
    Column("episode_id", Uuid, ForeignKey("captured_episodes.id"), nullable=False, index=True),
    Column("part_key", Text, nullable=False),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("customer_id", Uuid, ForeignKey("customer_accounts.id"), nullable=False),
    Column("key_id", Uuid, nullable=False),
    Column("request_id", Uuid),
    Column("session_id", Text),
    Column("outcome", Text, nullable=False),
    Column("action", JSONB(none_as_null=True)),  # what it should have been; of a correction only
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("outcome IN ('success', 'failure', 'correction')", name="outcome"),
    CheckConstraint("request_id IS NOT NULL OR session_id IS NOT NULL", name="about"),
    CheckConstraint("(outcome = 'correction') = (action IS NOT NULL)", name="correction_has_action"),
)
Index("ix_feedback_customer_id_session_id", feedback.c.customer_id, feedback.c.session_id)
Index("ix_feedback_customer_id_request_id", feedback.c.customer_id, feedback.c.request_id)

# What was asked to be deleted: also held against whatever still waits in a local file.
data_deletions = Table(
    "data_deletions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("customer_id", Uuid, ForeignKey("customer_accounts.id"), nullable=False, index=True),
    Column("session_id", Text),
    Column("request_id", Uuid),
    Column("asked_by", Text, nullable=False),
    Column("asked_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("proved_at", DateTime(timezone=True)),
    Column("proof", JSONB(none_as_null=True)),
    CheckConstraint("session_id IS NULL OR request_id IS NULL", name="one_thing"),
)

datasets = Table(
    "datasets",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("place", Text, nullable=False),  # the folder it was written to
    Column("asked", JSONB, nullable=False),
    Column("episodes", Integer, nullable=False, server_default=text("0")),
    Column("frames", Integer, nullable=False, server_default=text("0")),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("finished_at", DateTime(timezone=True)),
)

dataset_members = Table(
    "dataset_members",
    metadata,
    Column("dataset_id", Uuid, ForeignKey("datasets.id"), primary_key=True),
    Column("episode_id", Uuid, ForeignKey("captured_episodes.id"), primary_key=True, index=True),
    Column("split", Text, nullable=False),
    Column("tombstoned_at", DateTime(timezone=True)),  # deleted since: the dataset must be built again before it is used
)
