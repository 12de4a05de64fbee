"""Words, motions and sessions out of the log, and feedback out of its table, some rows at a time: a customer may have millions.

Each step is a transaction well below the statement timeout; whoever is killed begins again and finds what is left. Feedback that
names a request goes before the row forgets which session the request was of. Raises DatabaseAwayError. Knows no object store.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.capture.asked import Asked, Wanted
from control_plane.capture.tables import captured_episodes, captured_frames, feedback
from control_plane.db import database_errors
from control_plane.usage.request_id import instant_of

AT_ONCE = 2000
Told = Callable[[str, int], None]  # what, and how many so far

_CONTENT = ("instruction", "action", "action_chunk", "raw_action", "session_id")
_HAS_CONTENT = " OR ".join(f"{name} IS NOT NULL" for name in _CONTENT)
_EMPTY = ", ".join(f"{name} = NULL" for name in _CONTENT)

# Ids of one instant are in their order too, so a page begins after the last id of the one before.
_PAGE = f"""
SELECT request_id, timestamp, ({_HAS_CONTENT}) AND (CAST(:session AS text) IS NULL OR session_id = :session)
       AND (CAST(:request AS uuid) IS NULL OR request_id = :request) AS is_meant
FROM inference_logs
WHERE customer_id = :customer AND timestamp >= :begin_at AND timestamp <= :end_at
  AND (timestamp, request_id) > (:begin_at, :after)
ORDER BY timestamp, request_id LIMIT {AT_ONCE}
"""  # noqa: S608 -- words of this module
_FORGET = f"""
UPDATE inference_logs SET {_EMPTY}
WHERE customer_id = :customer AND timestamp >= :first_at AND timestamp <= :last_at AND request_id = ANY(:ids)
"""  # noqa: S608 -- as above
_BEGIN = "SELECT min(timestamp) FROM inference_logs WHERE customer_id = :customer"


async def meant_in_log(engine: AsyncEngine, asked: Asked) -> AsyncIterator[tuple[int, list[tuple[UUID, datetime]]]]:
    """Pages of the customer's log up to when it was asked: how many rows were looked at, and those that are meant."""
    wanted = asked.wanted
    values: dict[str, Any] = {"customer": wanted.customer_id, "session": wanted.session_id, "request": wanted.request_id}
    if wanted.request_id is None:
        begin_at, end_at = await _scalar(engine, _BEGIN, values) or asked.at, asked.at
    else:
        begin_at = end_at = instant_of(wanted.request_id)
    after = UUID(int=0)
    while True:
        with database_errors():
            async with engine.connect() as connection:
                place = {"begin_at": begin_at, "end_at": end_at, "after": after}
                rows = (await connection.execute(text(_PAGE), values | place)).all()
        yield len(rows), [(row.request_id, row.timestamp) for row in rows if row.is_meant]
        if len(rows) < AT_ONCE:
            return
        begin_at, after = rows[-1].timestamp, rows[-1].request_id


async def _scalar(engine: AsyncEngine, query: str, values: dict[str, Any]) -> Any:
    with database_errors():
        async with engine.connect() as connection:
            return await connection.scalar(text(query), values)


async def forget_log(engine: AsyncEngine, asked: Asked, done: Counter[str], told: Told) -> None:
    """Counts in `done` the rows that lost content, and feedback that went with them."""
    looked = 0
    async for count, meant in meant_in_log(engine, asked):
        if meant:
            with database_errors():
                async with engine.begin() as connection:
                    said = await _forget_said(connection, asked, [request for request, _ in meant])
                    rows = await _forget_rows(connection, asked.wanted, meant)
            done["feedback"] += said
            done["log_rows"] += rows
        looked += count
        told("rows of the log", looked)


async def _forget_rows(connection: AsyncConnection, wanted: Wanted, meant: list[tuple[UUID, datetime]]) -> int:
    values = {"customer": wanted.customer_id, "first_at": meant[0][1], "last_at": meant[-1][1], "ids": [one for one, _ in meant]}
    return (await connection.execute(text(_FORGET), values)).rowcount


async def _forget_said(connection: AsyncConnection, asked: Asked, requests: list[UUID]) -> int:
    is_it = feedback.c.request_id == func.any(requests)
    return (await connection.execute(delete(feedback).where(_before(asked) & is_it))).rowcount


def _before(asked: Asked) -> ColumnElement[bool]:
    return (feedback.c.customer_id == asked.wanted.customer_id) & (feedback.c.created_at <= asked.at)


def feedback_of(asked: Asked) -> ColumnElement[bool]:
    """What was said, before it was asked, of what is meant; of a session, also what names a request of its episodes."""
    wanted, is_it = asked.wanted, _before(asked)
    if wanted.request_id is not None:
        return is_it & (feedback.c.request_id == wanted.request_id)
    if wanted.session_id is None:
        return is_it
    of_it = captured_episodes.c.customer_id == wanted.customer_id, captured_episodes.c.session_id == wanted.session_id
    joined = captured_frames.join(captured_episodes, captured_frames.c.episode_id == captured_episodes.c.id)
    frames = select(captured_frames.c.request_id).select_from(joined).where(*of_it)
    return is_it & ((feedback.c.session_id == wanted.session_id) | feedback.c.request_id.in_(frames))


async def forget_feedback(engine: AsyncEngine, asked: Asked, done: Counter[str]) -> None:
    """Before the episodes go, whose frames say which session a request was of. Counted in `done`."""
    some = select(feedback.c.id).where(feedback_of(asked)).limit(AT_ONCE)
    count = AT_ONCE
    while count == AT_ONCE:
        with database_errors():
            async with engine.begin() as connection:
                count = (await connection.execute(delete(feedback).where(feedback.c.id.in_(some)))).rowcount
        done["feedback"] += count
