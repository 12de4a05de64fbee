"""Reads the audit log, newest first, page by page. Used by the command line and by the operators' API; changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.audit.tables import audit_log
from control_plane.db import database_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the log."""

    id: UUID
    at: datetime
    actor: str
    action: str
    target: str
    customer_id: UUID | None
    before: Any
    after: Any
    request_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which lines; None asks nothing. `before_id` is the last line of the page before."""

    customer_id: UUID | None = None
    target: str | None = None
    actor: str | None = None
    action: str | None = None
    before_id: UUID | None = None


async def read_lines(engine: AsyncEngine, wanted: Filter, *, limit: int) -> Sequence[Line]:
    """At most `limit` lines."""
    query = select(audit_log).order_by(audit_log.c.id.desc()).limit(limit)
    for name in ("customer_id", "target", "actor", "action"):
        if (value := getattr(wanted, name)) is not None:
            query = query.where(audit_log.c[name] == value)
    if wanted.before_id is not None:
        query = query.where(audit_log.c.id < wanted.before_id)
    with database_errors():
        async with engine.connect() as connection:
            return [Line(**row._mapping) for row in await connection.execute(query)]
