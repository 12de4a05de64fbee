"""The text of an operator's key: `vla_admin_` + 27 random base62 characters + 6 of CRC32, like a customer's but never one."""

import re
import secrets
import string

from control_plane.identity.api_key import CHECKSUM_CHARACTERS, RANDOM_CHARACTERS, checksum

PREFIX = "vla_admin_"
_START_CHARACTERS = 4
_ALPHABET = string.digits + string.ascii_letters
_KEY = re.compile(rf"({PREFIX}[0-9A-Za-z]{{{RANDOM_CHARACTERS}}})([0-9A-Za-z]{{{CHECKSUM_CHARACTERS}}})")


def mint_operator_key() -> str:
    """A new key. It is shown once and kept nowhere."""
    body = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return body + checksum(body)


def is_operator_key(text: str) -> bool:
    """Whether this can be one of ours: right shape, right checksum."""
    match = _KEY.fullmatch(text)
    return match is not None and checksum(match[1]) == match[2]


def start_of(key: str) -> str:
    """What lists show: `vla_admin_ab12…`."""
    return f"{key[: len(PREFIX) + _START_CHARACTERS]}…"
