"""Reads `inference_logs` for people: one request, or a page of one customer's, newest first. Changes nothing.

The instant of a request is inside its id, so one id is one row in one partition. What retention removed is not there any more;
instruction and action of a customer with zero retention are shown to nobody, also where older rows still hold them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import database_errors
from control_plane.usage.request_id import instant_of

_COLUMNS = """
    l.request_id, l.timestamp, l.customer_id, l.key_id, l.route, l.model, l.model_version, l.robot_type, l.status, l.error_code,
    l.decision, l.limiting_rule, l.safety_score, l.latency_ms, l.compute_ms, l.session_id, l.is_billable, l.is_test,
    l.instruction, l.action, l.action_chunk, c.is_zero_retention
"""
_FROM = "FROM inference_logs l JOIN customer_accounts c ON c.id = l.customer_id"
_FILTERS = {
    "customer_id": "l.customer_id = :customer_id",
    "key_id": "l.key_id = :key_id",
    "status": "l.status = :status",
    "model": "l.model = :model",
    "robot_type": "l.robot_type = :robot_type",
    "session_id": "l.session_id = :session_id",
    "since": "l.timestamp >= :since",
    "until": "l.timestamp < :until",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which requests; None asks nothing. `before` is the last request of the page before."""

    customer_id: UUID | None = None
    key_id: UUID | None = None
    status: str | None = None
    model: str | None = None
    robot_type: str | None = None
    session_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: UUID | None = None


async def read_requests(engine: AsyncEngine, wanted: Wanted, *, limit: int) -> Sequence[Row[Any]]:
    """At most `limit` rows."""
    given = {name: value for name in _FILTERS if (value := getattr(wanted, name)) is not None}
    conditions = [_FILTERS[name] for name in given]
    if wanted.before is not None:
        conditions.append("(l.timestamp, l.request_id) < (:before_at, :before_id)")
        given |= {"before_at": instant_of(wanted.before), "before_id": wanted.before}
    where = " AND ".join(conditions) or "TRUE"
    query = f"SELECT {_COLUMNS} {_FROM} WHERE {where} ORDER BY l.timestamp DESC, l.request_id DESC LIMIT :limit"
    with database_errors():
        async with engine.connect() as connection:
            return (await connection.execute(text(query), {**given, "limit": limit})).all()


async def read_request(engine: AsyncEngine, request_id: UUID, wanted: Wanted) -> Row[Any] | None:
    """The row, if it is one of the wanted ones."""
    given = {name: value for name in ("customer_id", "key_id") if (value := getattr(wanted, name)) is not None}
    conditions = ["l.request_id = :request_id", "l.timestamp = :at", *(_FILTERS[name] for name in given)]
    query = f"SELECT {_COLUMNS} {_FROM} WHERE {' AND '.join(conditions)}"
    values = {**given, "request_id": request_id, "at": instant_of(request_id)}
    with database_errors():
        async with engine.connect() as connection:
            return (await connection.execute(text(query), values)).one_or_none()
