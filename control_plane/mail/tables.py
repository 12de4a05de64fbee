"""The outbox of e-mails. Tests hold the tables equal to what the migrations make."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)

from control_plane.db import metadata

mails = Table(
    "mails",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("dedupe_key", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("html", Text),
    Column("sealed_secret", LargeBinary),  # wiped in the transaction that marks the mail as sent
    Column("status", Text, nullable=False, server_default=text("'waiting'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_attempt_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("last_error", Text),
    Column("sent_by", Text),
    Column("sent_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    UniqueConstraint("dedupe_key"),
    CheckConstraint("status IN ('waiting', 'sent', 'dead')", name="status"),
    CheckConstraint("sent_by IN ('smtp', 'file')", name="sent_by"),
    CheckConstraint("status <> 'sent' OR sealed_secret IS NULL", name="a_sent_one_keeps_no_secret"),
)

Index("ix_mails_next_attempt_at", mails.c.next_attempt_at, postgresql_where=text("status = 'waiting'"))
Index("ix_mails_created_at_dead", mails.c.created_at, postgresql_where=text("status = 'dead'"))

mail_attachments = Table(
    "mail_attachments",
    metadata,
    Column("mail_id", Uuid, ForeignKey("mails.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("filename", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("mail_id", "position"),
)
