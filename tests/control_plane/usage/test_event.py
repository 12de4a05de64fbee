"""The usage event as bytes: the same event is always the same bytes, and no other bytes are taken for one."""

from itertools import product
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.usage.event import EventError, UnknownSchemaError, UsageEvent, UsageStatus, decode, encode
from tests.control_plane.usage.making import make_event


def test_an_event_comes_back_as_it_was() -> None:
    event = make_event(uuid4())
    assert decode(encode(event)) == event


def test_the_same_event_is_the_same_bytes() -> None:
    event = make_event(uuid4())
    assert encode(decode(encode(event))) == encode(event)


@pytest.mark.parametrize("status", UsageStatus)
def test_only_an_answer_with_an_action_is_billable(status: UsageStatus) -> None:
    assert make_event(uuid4(), status=status).is_billable == (status is UsageStatus.SUCCESS)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(payload: bytes) -> None:
    with pytest.raises(EventError):
        decode(payload)


def test_an_event_with_any_one_byte_damaged_is_refused_or_still_an_event() -> None:
    payload = encode(make_event(uuid4()))
    refused = 0
    for position, byte in product(range(len(payload)), range(256)):
        try:
            assert isinstance(decode(payload[:position] + bytes([byte]) + payload[position + 1 :]), UsageEvent)
        except EventError:
            refused += 1
    assert refused > 10_000


def test_a_newer_event_that_still_reads_is_refused_by_its_schema() -> None:
    with pytest.raises(UnknownSchemaError):
        decode(encode(make_event(uuid4(), schema=2)))


def test_a_newer_event_that_no_longer_reads_is_refused_by_its_schema() -> None:
    with pytest.raises(UnknownSchemaError, match="schema 3"):
        decode(msgspec.msgpack.encode({"schema": 3, "request_id": 12}))
