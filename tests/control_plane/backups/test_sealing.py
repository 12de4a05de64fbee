"""What is sealed opens only whole, unchanged, in its own place and with its own key."""

import pytest

from control_plane.backups.sealing import DamagedBackupError, key_id, seal_of, signature

KEY, OTHER = b"k" * 32, b"o" * 32
PLAIN = b"rows of somebody" * 100


def test_a_part_opens_to_what_was_sealed_and_says_nothing_before() -> None:
    seal = seal_of(KEY, "database-1")
    sealed = seal.close(PLAIN, number=3, is_last=False)
    assert seal_of(KEY, "database-1").open(sealed, number=3, is_last=False) == PLAIN
    assert b"somebody" not in sealed


@pytest.mark.parametrize("at", [0, 800, -1])
def test_one_changed_bit_is_noticed(at: int) -> None:
    seal = seal_of(KEY, "database-1")
    sealed = bytearray(seal.close(PLAIN, number=0, is_last=True))
    sealed[at] ^= 1
    with pytest.raises(DamagedBackupError, match="part 0 does not open"):
        seal.open(bytes(sealed), number=0, is_last=True)


@pytest.mark.parametrize(("key", "about", "number", "is_last"), [
    (OTHER, "database-1", 1, False),
    (KEY, "database-2", 1, False),
    (KEY, "database-1", 2, False),
    (KEY, "database-1", 1, True),
])  # fmt: skip
def test_a_part_opens_nowhere_else(key: bytes, about: str, number: int, is_last: bool) -> None:
    sealed = seal_of(KEY, "database-1").close(PLAIN, number=1, is_last=False)
    with pytest.raises(DamagedBackupError):
        seal_of(key, about).open(sealed, number=number, is_last=is_last)


def test_too_little_to_hold_a_tag_is_damaged_and_no_crash() -> None:
    with pytest.raises(DamagedBackupError):
        seal_of(KEY, "database-1").open(b"short", number=0, is_last=True)


def test_keys_have_names_and_signatures_of_their_own() -> None:
    assert key_id(KEY) != key_id(OTHER)
    assert KEY.hex() not in key_id(KEY)
    assert signature(KEY, b"one") != signature(KEY, b"two")
    assert signature(KEY, b"one") != signature(OTHER, b"one")
