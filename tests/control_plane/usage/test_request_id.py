"""Request ids: their two spellings and the instant inside."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.usage.request_id import RequestIdError, instant_of, mint, mint_at, parse, public_form

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def test_a_minted_id_carries_the_millisecond_of_its_making() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    request_id = mint()
    assert before <= instant_of(request_id) <= datetime.now(UTC)
    assert request_id.version == 7


def test_many_ids_of_one_millisecond_are_all_different() -> None:
    instant = datetime(2026, 11, 30, 23, 59, 59, 999000, tzinfo=UTC)
    assert len({mint_at(instant) for _ in range(10_000)}) == 10_000


@given(st.integers(min_value=0, max_value=4_102_444_800_000))
def test_the_instant_of_an_id_is_exactly_its_millisecond(ms: int) -> None:
    instant = EPOCH + timedelta(milliseconds=ms)
    assert instant_of(mint_at(instant)) == instant


def test_the_public_form_leads_back_to_the_id() -> None:
    request_id = mint()
    assert public_form(request_id).startswith("inf_")
    assert parse(public_form(request_id)) == request_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "inf_",
        "req_0193a2b4c5d67e8f90a1b2c3d4e5f607",
        "inf_0193a2b4c5d67e8f90a1b2c3d4e5f60",
        "inf_0193A2B4C5D67E8F90A1B2C3D4E5F607",
        "inf_0193a2b4-c5d6-7e8f-90a1-b2c3d4e5f607",
        "inf_0193a2b4c5d67e8f90a1b2c3d4e5f607\n",
        "inf_0193a2b4c5d64e8f90a1b2c3d4e5f607",
        "inf_ffffffffffff7e8f90a1b2c3d4e5f607",
    ],
)
def test_any_other_spelling_is_refused(text: str) -> None:
    with pytest.raises(RequestIdError):
        parse(text)


@pytest.mark.parametrize("other", [uuid4(), UUID(int=0), UUID("ffffffff-ffff-7fff-bfff-ffffffffffff")])
def test_an_id_without_an_instant_is_refused(other: UUID) -> None:
    with pytest.raises(RequestIdError):
        instant_of(other)
