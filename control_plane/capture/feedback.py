"""What customers say of a motion or a session afterwards: it worked, it did not, or what it should have been.

A request's row is written seconds after its answer, so nothing is looked up: an id that was never yours joins nothing at all.
Under the policy `zero` there is nothing that it could belong to, and a correction would be content: it is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import Row, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.capture.tables import captured_frames, feedback
from control_plane.db import database_errors
from control_plane.errors import ApiError
from control_plane.identity.principal import Principal
from control_plane.identity.public_id import new_id
from control_plane.usage.request_id import instant_of

OLDEST = timedelta(days=30)
_AHEAD = timedelta(minutes=5)  # of a clock


class FeedbackOutcome(StrEnum):
    """What was said."""

    SUCCESS = "success"
    FAILURE = "failure"
    CORRECTION = "correction"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFeedback:
    """About a request, a session, or a request of a session. `action`: what a correction says it should have been, (T, D)."""

    outcome: FeedbackOutcome
    request_id: UUID | None = None
    session_id: str | None = None
    action: Sequence[Sequence[float]] | None = None


async def give(engine: AsyncEngine, by: Principal, new: NewFeedback) -> UUID:
    """Writes it down; returns its id. Raises ApiError naming the field."""
    _require(new, by)
    row = {
        "id": new_id(),
        "customer_id": by.customer_id,
        "key_id": by.key_id,
        "request_id": new.request_id,
        "session_id": new.session_id,
        "outcome": new.outcome.value,
        "action": None if new.action is None else [list(step) for step in new.action],
    }
    with database_errors():
        async with engine.begin() as connection:
            await connection.execute(insert(feedback).values(row))
    id_: UUID = row["id"]  # type: ignore[assignment]  # as just made
    return id_


async def of_session(engine: AsyncEngine, customer_id: UUID, session_id: str, *, episode_id: UUID) -> Sequence[Row[Any]]:
    """Everything said of a session or of a request of its episode, oldest first."""
    requests = select(captured_frames.c.request_id).where(captured_frames.c.episode_id == episode_id)
    is_about = (feedback.c.session_id == session_id) | feedback.c.request_id.in_(requests)
    query = select(feedback).where((feedback.c.customer_id == customer_id) & is_about).order_by(feedback.c.id)
    with database_errors():
        async with engine.connect() as connection:
            return (await connection.execute(query)).all()


def _require(new: NewFeedback, by: Principal) -> None:
    if by.data.is_zero:
        raise ApiError("feedback_not_kept")
    if new.request_id is None and new.session_id is None:
        raise ApiError("missing_field", "Say what it is about: request_id, session_id or both.", param="request_id")
    if new.request_id is not None:
        age = datetime.now(UTC) - instant_of(new.request_id)
        if not -_AHEAD <= age <= OLDEST:
            raise ApiError("invalid_field", f"request_id must be of the last {OLDEST.days} days.", param="request_id")
    if (new.action is not None) != (new.outcome is FeedbackOutcome.CORRECTION):
        code = "missing_field" if new.action is None else "invalid_field"
        raise ApiError(code, "action belongs to the outcome correction, and to no other.", param="action")
    if new.action is not None:
        if new.request_id is None:
            raise ApiError("missing_field", "A correction is about one request: give its request_id.", param="request_id")
        _require_motion(new.action)


def _require_motion(action: Sequence[Sequence[float]]) -> None:
    widths = {len(step) for step in action}
    if len(widths) != 1 or 0 in widths or not np.isfinite(np.array(list(action), dtype=np.float64)).all():
        raise ApiError("invalid_field", "action must be rows of finite numbers, all of one length.", param="action")
