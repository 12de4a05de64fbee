"""Sealed secrets open only under their own pepper, purpose and row."""

from typing import Any

import pytest

from control_plane.sealed import SealBrokenError, seal, unseal

TERMS: dict[str, Any] = {"pepper": b"p" * 32, "purpose": "mail", "about": b"row 1"}


def test_what_was_sealed_opens_and_never_looks_the_same_twice() -> None:
    once, again = seal("grüß", **TERMS), seal("grüß", **TERMS)
    assert unseal(once, **TERMS) == unseal(again, **TERMS) == "grüß"
    assert once != again


@pytest.mark.parametrize("other", [{"pepper": b"q" * 32}, {"purpose": "webhook"}, {"about": b"row 2"}])
def test_under_other_terms_it_stays_shut(other: dict[str, Any]) -> None:
    with pytest.raises(SealBrokenError):
        unseal(seal("x", **TERMS), **{**TERMS, **other})


@pytest.mark.parametrize("place", [0, 1, 13, 29])
def test_a_changed_byte_is_noticed(place: int) -> None:
    data = bytearray(seal("secret", **TERMS))
    data[place] ^= 1
    with pytest.raises(SealBrokenError):
        unseal(bytes(data), **TERMS)


def test_what_is_cut_short_stays_shut() -> None:
    with pytest.raises(SealBrokenError):
        unseal(b"\x01short", **TERMS)
