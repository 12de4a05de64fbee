"""From a usage event's bytes to a row of `inference_logs`, or to the reason why it cannot be one.

Everything that can be judged without the database is judged here, so that one bad event costs no batch. Called by `intake`.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from control_plane.usage.dead_letters import DeadLetter, Reason
from control_plane.usage.event import EventError, UnknownSchemaError, UsageEvent, decode
from control_plane.usage.request_id import RequestIdError, instant_of

FUTURE = timedelta(days=1)
PAST = timedelta(days=400)

COLUMNS = (
    "request_id",
    "timestamp",
    "customer_id",
    "key_id",
    "route",
    "model",
    "model_version",
    "robot_type",
    "instruction",
    "action",
    "action_chunk",
    "raw_action",
    "safety_score",
    "decision",
    "limiting_rule",
    "latency_ms",
    "compute_ms",
    "status",
    "error_code",
    "session_id",
    "is_billable",
    "is_test",
    "payload_hash",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One event, ready to be copied: `values` in the order of COLUMNS."""

    request_id: UUID
    occurred_at: datetime
    payload: bytes
    is_idempotent: bool
    values: tuple[object, ...]


def examine(payload: bytes, *, now: datetime) -> Row | DeadLetter:
    """The row in these bytes, or the letter they become. Never raises for any bytes."""
    try:
        event = decode(payload)
    except UnknownSchemaError as error:
        return DeadLetter(payload=payload, reason=Reason.UNKNOWN_SCHEMA, detail=str(error))
    except EventError as error:
        return DeadLetter(payload=payload, reason=Reason.UNDECODABLE, detail=str(error))
    fault = _fault(event, now)
    if fault is not None:
        reason, detail = fault
        return DeadLetter(payload=payload, reason=reason, detail=detail, request_id=event.request_id)
    occurred_at = event.occurred_at.astimezone(UTC)
    values = (event.request_id, occurred_at, *_values(event), hashlib.sha256(payload).digest())
    return Row(
        request_id=event.request_id, occurred_at=occurred_at, payload=payload, is_idempotent=event.is_idempotent, values=values
    )


def _fault(event: UsageEvent, now: datetime) -> tuple[Reason, str] | None:
    try:
        instant = instant_of(event.request_id)
    except RequestIdError as error:
        return Reason.WRONG_INSTANT, f"request_id: {error}"
    if event.occurred_at.tzinfo is None or event.occurred_at != instant:
        return Reason.WRONG_INSTANT, f"occurred_at is {event.occurred_at.isoformat()}, the id says {instant.isoformat()}"
    if not now - PAST <= instant <= now + FUTURE:
        return Reason.OUT_OF_RANGE, f"{instant.isoformat()} is more than {PAST.days} days ago or {FUTURE.days} day ahead"
    return None


def _values(event: UsageEvent) -> tuple[object, ...]:
    chunk = event.action or None
    return (
        event.customer_id,
        event.key_id,
        _text(event.route),
        _text(event.policy),
        event.policy_version,
        _text(event.robot_type),
        _text(event.instruction),
        chunk and chunk[0],
        chunk if chunk and len(chunk) > 1 else None,
        event.raw_action or None,
        event.safety_score,
        _text(event.decision),
        _text(event.limiting_rule),
        event.latency_ms,
        event.compute_ms,
        event.status.value,
        _text(event.error_code),
        _text(event.session_id),
        event.is_billable,
        event.is_test,
    )


def _text(text: str | None) -> str | None:
    """PostgreSQL's text cannot hold NUL; a customer who sends one is billed all the same. The hash is of what was sent."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if text and "\0" in text else text
