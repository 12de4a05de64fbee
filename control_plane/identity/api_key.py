"""The text of an API key: `vla_live_` or `vla_test_` + 27 random base62 characters (160 bits) + 6 base62 characters of CRC32.

The checksum lets a typing mistake be refused, and a leaked key be recognised by scanners, without asking any store. Stored is the
HMAC-SHA256 of the key under a pepper: no slow hash is needed, because 160 random bits cannot be guessed, and a leaked table is
worthless without the pepper. Knows no store and no HTTP; identity verifies with it, `keys` mints with it.
"""

import hmac
import re
import secrets
import zlib
from collections.abc import Callable

LIVE_PREFIX, TEST_PREFIX = "vla_live_", "vla_test_"
RANDOM_CHARACTERS = 27
CHECKSUM_CHARACTERS = 6
START_CHARACTERS = 4

_CHARACTERS = len(LIVE_PREFIX) + RANDOM_CHARACTERS + CHECKSUM_CHARACTERS
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY = re.compile(rf"((?:{LIVE_PREFIX}|{TEST_PREFIX})[0-9A-Za-z]{{{RANDOM_CHARACTERS}}})([0-9A-Za-z]{{{CHECKSUM_CHARACTERS}}})")


def mint_key(*, is_test: bool = False) -> str:
    """A new key. It is shown once and kept nowhere."""
    body = (TEST_PREFIX if is_test else LIVE_PREFIX) + "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return body + checksum(body)


def is_as_long(text: str) -> bool:
    """Whether it has exactly as many characters as a key, and none but ASCII: costs next to nothing to ask."""
    return len(text) == _CHARACTERS and text.isascii()


def is_well_formed(text: str) -> bool:
    """Whether this can be a key of ours at all: right shape, right checksum."""
    match = _KEY.fullmatch(text)
    return match is not None and checksum(match[1]) == match[2]


def checksum(body: str) -> str:
    """CRC32 of everything before it, as six base62 characters."""
    return base62(zlib.crc32(body.encode("ascii")), width=CHECKSUM_CHARACTERS)


def base62(number: int, *, width: int) -> str:
    """`number` in base62, padded with zeros on the left."""
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = _ALPHABET[digit] + digits
    return digits.rjust(width, "0")


def digest_of(key: str, *, pepper: bytes) -> bytes:
    """What is stored and looked up: 32 bytes.

    Stores find it by equality in an index or a hash table. No constant-time comparison is needed for that: what timing could
    reveal is a part of a digest, and nobody without the pepper can make a key whose digest begins in a wanted way.
    """
    return hmac.digest(pepper, key.encode("ascii"), "sha256")


def digester(*, pepper: bytes) -> Callable[[str], bytes]:
    """`digest_of` under one pepper, for who is asked with every request: what only depends on the pepper is done once."""
    begun = hmac.new(pepper, digestmod="sha256")

    def digest(key: str) -> bytes:
        mine = begun.copy()
        mine.update(key.encode("ascii"))
        return mine.digest()

    return digest


def start_of(key: str) -> str:
    """What lists show, to tell keys apart: `vla_live_ab12…`. It leaves 136 random bits unsaid."""
    return f"{key[: len(LIVE_PREFIX) + START_CHARACTERS]}…"
