"""The usage event: one per request that passed authentication and admission, the root of every log row and every invoice line.

A value and its bytes: the journal carries it, the recorder stores it. The id is minted at the door (UUIDv7), and `occurred_at` is
exactly the millisecond inside that id, so that one id can only ever land in one day's partition.
"""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec
from msgspec.structs import replace

SCHEMA = 1
TEST_SCHEMA = 2  # of a test key's event: a recorder that does not know them refuses it, instead of billing it


class UsageStatus(StrEnum):
    """How the request ended. Only SUCCESS is billable."""

    SUCCESS = "success"
    REFUSED = "refused"  # the guard rejected the model's action
    INVALID = "invalid"  # rejected input (4xx after admission)
    TIMEOUT = "timeout"
    ERROR = "error"  # our fault
    CHECKED = "checked"  # a dry run of the guard: nothing was inferred, nothing is billed


class UsageEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is journalled, as msgpack. `schema` lets an old recorder refuse a newer event instead of misreading it."""

    schema: int = SCHEMA
    request_id: UUID
    customer_id: UUID
    key_id: UUID
    occurred_at: datetime
    route: str
    policy: str
    policy_version: int
    robot_type: str
    status: UsageStatus
    latency_ms: float
    compute_ms: float | None = None
    instruction: str | None = None  # None under zero retention
    action: list[list[float]] | None = None  # the returned chunk; None when refused or under zero retention
    raw_action: list[list[float]] | None = None  # what the policy wanted, where the guard returned something else
    decision: str | None = None
    safety_score: float | None = None
    limiting_rule: str | None = None
    error_code: str | None = None
    session_id: str | None = None
    is_idempotent: bool = False  # another attempt may have left another event under the same id; the first one counts
    is_test: bool = False  # asked with a test key: logged, in no roll-up, never billed

    @property
    def is_billable(self) -> bool:
        """Answered with an action, and not to a test key."""
        return self.status is UsageStatus.SUCCESS and not self.is_test


def without_content(event: UsageEvent) -> UsageEvent:
    """The event as it would have been under zero retention."""
    return replace(event, instruction=None, action=None, raw_action=None, session_id=None)


class EventError(ValueError):
    """Bytes that are not a usage event of this release."""


class UnknownSchemaError(EventError):
    """A usage event of a newer release."""


class _Schema(msgspec.Struct):
    schema: int = SCHEMA


_UNREADABLE = (msgspec.DecodeError, ValueError)  # ValueError: bytes that are not UTF-8

_ENCODER = msgspec.msgpack.Encoder(uuid_format="bytes")
_DECODER = msgspec.msgpack.Decoder(UsageEvent)


def encode(event: UsageEvent) -> bytes:
    """The event's bytes; the same event always gives the same bytes, which is what tells a replay from a conflict."""
    return _ENCODER.encode(event)


def decode(payload: bytes) -> UsageEvent:
    """The event in these bytes. Raises UnknownSchemaError or EventError; never guesses."""
    try:
        event = _DECODER.decode(payload)
    except _UNREADABLE as error:
        _refuse_other_schema(payload)
        raise EventError(str(error)) from None
    if event.schema != (TEST_SCHEMA if event.is_test else SCHEMA):
        raise UnknownSchemaError(f"schema {event.schema}")
    return event


def _refuse_other_schema(payload: bytes) -> None:
    try:
        schema = msgspec.msgpack.decode(payload, type=_Schema).schema
    except _UNREADABLE:
        return
    if schema not in {SCHEMA, TEST_SCHEMA}:
        raise UnknownSchemaError(f"schema {schema}")
