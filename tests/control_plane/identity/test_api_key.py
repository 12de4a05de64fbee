"""The text of a key: random, checkable without a store, and never stored itself."""

import hashlib
import hmac
import re

from hypothesis import given
from hypothesis import strategies as st

from control_plane.identity.api_key import (
    LIVE_PREFIX,
    TEST_PREFIX,
    base62,
    checksum,
    digest_of,
    digester,
    is_as_long,
    is_well_formed,
    mint_key,
    start_of,
)

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def test_a_key_has_the_prefix_160_random_bits_and_a_checksum() -> None:
    key = mint_key()
    assert re.fullmatch(r"vla_live_[0-9A-Za-z]{27}[0-9A-Za-z]{6}", key)
    assert 62**27 > 2**160


def test_minted_keys_are_well_formed_and_differ() -> None:
    keys = {mint_key() for _ in range(200)}
    assert len(keys) == 200
    assert all(is_well_formed(key) for key in keys)


def test_the_checksum_of_a_known_key_never_changes() -> None:
    # 0x908a17e6 is what gzip writes into its trailer for "vla_live_" and 27 zeros.
    assert checksum("vla_live_" + "0" * 27) == base62(0x908A17E6, width=6) == "2e6vGI"


@given(st.integers(min_value=0, max_value=2**32 - 1))
def test_base62_of_any_crc_is_six_characters_that_say_the_number(number: int) -> None:
    text = base62(number, width=6)
    assert len(text) == 6
    value = 0
    for character in text:
        value = value * 62 + ALPHABET.index(character)
    assert value == number


@given(position=st.integers(min_value=0, max_value=41), character=st.characters(codec="latin-1"))
def test_any_single_wrong_character_is_noticed(position: int, character: str) -> None:
    key = mint_key()
    changed = key[:position] + character + key[position + 1 :]
    assert is_well_formed(changed) == (changed == key)


@given(st.integers(min_value=9, max_value=40))
def test_any_two_swapped_neighbours_are_noticed(position: int) -> None:
    key = mint_key()
    swapped = key[:position] + key[position + 1] + key[position] + key[position + 2 :]
    assert is_well_formed(swapped) == (swapped == key)


@given(st.text(max_size=100))
def test_other_text_is_not_a_key(text: str) -> None:
    assert not is_well_formed(text)


def test_a_key_with_something_around_it_is_not_a_key() -> None:
    key = mint_key()
    assert not any(is_well_formed(text) for text in (f" {key}", f"{key}\n", key[:-1], f"{key}0", key.upper(), key * 2))


def test_the_digest_is_hmac_sha256_under_the_pepper() -> None:
    key = mint_key()
    assert digest_of(key, pepper=b"pepper") == hmac.new(b"pepper", key.encode(), hashlib.sha256).digest()
    assert digest_of(key, pepper=b"pepper") != digest_of(key, pepper=b"another")


def test_the_start_is_short_and_readable() -> None:
    key = mint_key()
    assert start_of(key) == key[:13] + "…"


@given(st.binary(max_size=200), st.lists(st.text(st.characters(codec="ascii"), max_size=100), min_size=1, max_size=3))
def test_a_digester_says_what_digest_of_says_time_after_time(pepper: bytes, keys: list[str]) -> None:
    digest = digester(pepper=pepper)
    assert [digest(key) for key in keys] == [digest_of(key, pepper=pepper) for key in keys]


def test_keys_of_both_kinds_are_as_long_as_a_key() -> None:
    assert len(LIVE_PREFIX) == len(TEST_PREFIX)
    assert is_as_long(mint_key())
    assert is_as_long(mint_key(is_test=True))
    assert not any(is_as_long(text) for text in (mint_key() + "0", mint_key()[1:], "é" * 42))
