"""What is judged of an event before the database sees it."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest

from control_plane.usage.dead_letters import DeadLetter, Reason
from control_plane.usage.event import encode
from control_plane.usage.rows import COLUMNS, Row, examine
from tests.control_plane.usage.making import make_event

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def value(row: Row | DeadLetter, column: str) -> object:
    assert isinstance(row, Row)
    return row.values[COLUMNS.index(column)]


def reason(examined: Row | DeadLetter) -> Reason:
    assert isinstance(examined, DeadLetter)
    return examined.reason


def test_a_row_has_a_value_for_every_column() -> None:
    row = examine(encode(make_event(uuid4(), at=NOW)), now=NOW)
    assert isinstance(row, Row)
    assert len(row.values) == len(COLUMNS)


@pytest.mark.parametrize(
    ("action", "first", "chunk"),
    [
        (None, None, None),
        ([], None, None),
        ([[0.5, 1.0]], [0.5, 1.0], None),
        ([[0.5], [0.25]], [0.5], [[0.5], [0.25]]),
    ],
)
def test_the_first_step_is_the_action_and_a_longer_chunk_is_kept_beside_it(
    action: list[list[float]] | None, first: list[float] | None, chunk: list[list[float]] | None
) -> None:
    row = examine(encode(make_event(uuid4(), at=NOW, action=action)), now=NOW)
    assert (value(row, "action"), value(row, "action_chunk")) == (first, chunk)


@pytest.mark.parametrize("raw", [None, [[0.5, float("nan")], [1e30, 0.0]]])
def test_the_raw_action_is_kept_as_it_was(raw: list[list[float]] | None) -> None:
    kept = value(examine(encode(make_event(uuid4(), at=NOW, raw_action=raw)), now=NOW), "raw_action")
    assert repr(kept) == repr(raw)


def test_a_nul_in_the_instruction_costs_the_character_and_not_the_row() -> None:
    row = examine(encode(make_event(uuid4(), at=NOW, instruction="pick\0up")), now=NOW)
    assert value(row, "instruction") == "pick\ufffdup"


def test_the_hash_is_of_the_bytes_that_came() -> None:
    event = make_event(uuid4(), at=NOW)
    other = make_event(uuid4(), at=NOW)
    hashes = {value(examine(encode(each), now=NOW), "payload_hash") for each in (event, event, other)}
    assert len(hashes) == 2


def test_an_instant_that_is_not_the_one_in_the_id_is_refused() -> None:
    event = make_event(uuid4(), at=NOW, occurred_at=NOW + timedelta(milliseconds=1))
    assert reason(examine(encode(event), now=NOW)) is Reason.WRONG_INSTANT


def test_an_id_of_another_kind_is_refused() -> None:
    event = make_event(uuid4(), at=NOW, request_id=UUID(int=5))
    assert reason(examine(encode(event), now=NOW)) is Reason.WRONG_INSTANT


def test_the_instant_is_stored_in_utc_however_it_was_spelt() -> None:
    event = make_event(uuid4(), at=NOW)
    spelt = encode(
        make_event(uuid4(), at=NOW, request_id=event.request_id, occurred_at=NOW.astimezone(timezone(timedelta(hours=14))))
    )
    row = examine(spelt, now=NOW)
    assert isinstance(row, Row)
    assert row.occurred_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("away", "is_taken"),
    [
        (timedelta(days=1), True),
        (timedelta(days=1, milliseconds=1), False),
        (timedelta(days=-400), True),
        (timedelta(days=-400, milliseconds=-1), False),
    ],
)
def test_an_event_far_from_now_is_refused(away: timedelta, is_taken: bool) -> None:
    examined = examine(encode(make_event(uuid4(), at=NOW + away)), now=NOW)
    assert isinstance(examined, Row) == is_taken
    if not is_taken:
        assert reason(examined) is Reason.OUT_OF_RANGE
