"""Secrets that must be read again later (a key on its way into an e-mail, a webhook's signing secret), sealed for the database.

AES-256-GCM under a key derived from the pepper, which is in no database: a stolen table or backup says nothing. `purpose` and
`about` are bound in, so a sealed value moved to another row or another use does not open. Knows no table.
"""

import secrets
from typing import Any

from Crypto.Cipher import AES
from Crypto.Hash import SHA256
from Crypto.Protocol.KDF import HKDF

_NONCE_BYTES, _TAG_BYTES, _KEY_BYTES = 12, 16, 32
_VERSION = b"\x01"


class SealBrokenError(Exception):
    """The value was sealed under another pepper, for something else, or was changed."""


def seal(text: str, *, pepper: bytes, purpose: str, about: bytes) -> bytes:
    """Version, nonce, tag and ciphertext."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    ciphertext: bytes
    tag: bytes
    ciphertext, tag = _cipher(pepper, purpose, about, nonce).encrypt_and_digest(text.encode())
    return _VERSION + nonce + tag + ciphertext


def unseal(data: bytes, *, pepper: bytes, purpose: str, about: bytes) -> str:
    """What was sealed. Raises SealBrokenError."""
    version, rest = data[:1], data[1:]
    nonce, tag, ciphertext = rest[:_NONCE_BYTES], rest[_NONCE_BYTES:][:_TAG_BYTES], rest[_NONCE_BYTES + _TAG_BYTES :]
    if version != _VERSION or len(tag) != _TAG_BYTES:
        raise SealBrokenError("unknown form")
    try:
        opened: bytes = _cipher(pepper, purpose, about, nonce).decrypt_and_verify(ciphertext, tag)
    except ValueError as error:
        raise SealBrokenError("does not open") from error
    return opened.decode()


def _cipher(pepper: bytes, purpose: str, about: bytes, nonce: bytes) -> Any:
    key: Any = HKDF(pepper, _KEY_BYTES, b"", SHA256, context=f"vlaapi sealed {purpose}".encode())
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)
    cipher.update(about)
    return cipher
