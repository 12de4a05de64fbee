"""Request ids: a UUIDv7 minted once at the door, shown to callers as `inf_` + 32 hex digits (which PostgreSQL reads as a uuid).

The id carries the instant of the request to the millisecond; that instant, never a second look at the clock, is the event's
`occurred_at`. Called by the doors, the pipeline and the recorder; knows no store.
"""

import os
import re
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

PREFIX = "inf_"

_PUBLIC_FORM = re.compile(r"inf_([0-9a-f]{32})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RANDOM_BITS = 74  # 12 of rand_a and 62 of rand_b (RFC 9562 §5.7)


class RequestIdError(ValueError):
    """Not a request id of this service."""


def mint() -> UUID:
    """A new id of this millisecond. 74 random bits: no two processes need to know of each other."""
    return _at_millisecond(time.time_ns() // 1_000_000)


def mint_at(instant: datetime) -> UUID:
    """A new id of another instant, cut to its millisecond: for events that are entered afterwards."""
    return _at_millisecond((instant - _EPOCH) // timedelta(milliseconds=1))


def _at_millisecond(ms: int) -> UUID:
    random = int.from_bytes(os.urandom(10)) & ((1 << _RANDOM_BITS) - 1)
    return UUID(int=ms << 80 | 0x7 << 76 | random >> 62 << 64 | 0b10 << 62 | random & ((1 << 62) - 1))


def instant_of(request_id: UUID) -> datetime:
    """The millisecond inside the id, aware UTC. Raises RequestIdError for any other kind of UUID."""
    number = request_id.int
    if number >> 76 & 0xF != 7 or number >> 62 & 0b11 != 0b10:
        raise RequestIdError("not a version 7 UUID")
    try:
        return _EPOCH + timedelta(milliseconds=number >> 80)
    except OverflowError:
        raise RequestIdError("its instant is beyond the calendar") from None


def public_form(request_id: UUID) -> str:
    """What callers and logs see."""
    return PREFIX + request_id.hex


def parse(public: str) -> UUID:
    """The id behind its public form. Raises RequestIdError; accepts exactly one spelling of each id."""
    match = _PUBLIC_FORM.fullmatch(public)
    if match is None:
        raise RequestIdError("not a request id")
    request_id = UUID(hex=match[1])
    instant_of(request_id)
    return request_id
