"""Ids as outsiders see them."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.identity.public_id import new_id, parse_public_id, public_id


@given(st.uuids())
def test_an_id_comes_back_as_it_went(id_: UUID) -> None:
    assert parse_public_id("cus", public_id("cus", id_)) == id_


@pytest.mark.parametrize(
    "text", ["", "cus_", "cus_xyz", "key_" + "0" * 32, "cus_" + "0" * 31, "cus_" + "0" * 33, "cus_" + "G" * 32]
)
def test_other_text_is_not_a_customers_id(text: str) -> None:
    assert parse_public_id("cus", text) is None


def test_new_ids_sort_by_their_creation() -> None:
    ids = [new_id() for _ in range(100)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 100
