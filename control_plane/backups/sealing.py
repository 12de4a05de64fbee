"""Seals the parts of a backup, so that whoever holds the bucket can neither read a part nor change, swap, drop or repeat one.

AES-256-GCM under a key that is derived from the backup key for one stream of one backup; a part's number, and whether it is the
last one, are its nonce. Manifests are not secret but signed. Knows no store and no database.
"""

import hmac
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from Crypto.Cipher import AES
from Crypto.Hash import SHA256
from Crypto.Protocol.KDF import HKDF

_KEY_BYTES, _TAG_BYTES = 32, 16


class DamagedBackupError(Exception):
    """A part or a manifest is not what was written, or was written under another key; the text says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """Seals and opens the parts of one stream: use one for one stream only, `about` being its name in the store."""

    about: str
    key: bytes = field(repr=False)

    def close(self, data: bytes, *, number: int, is_last: bool) -> bytes:
        """Ciphertext and tag."""
        sealed: bytes
        tag: bytes
        sealed, tag = self._cipher(number, is_last=is_last).encrypt_and_digest(data)
        return sealed + tag

    def open(self, data: bytes, *, number: int, is_last: bool) -> bytes:
        """What was sealed at that place. Raises DamagedBackupError."""
        try:
            opened: bytes = self._cipher(number, is_last=is_last).decrypt_and_verify(data[:-_TAG_BYTES], data[-_TAG_BYTES:])
        except ValueError:
            raise DamagedBackupError(f"{self.about}: part {number} does not open: it was changed, or belongs elsewhere") from None
        return opened

    def _cipher(self, number: int, *, is_last: bool) -> Any:
        nonce = number.to_bytes(11, "big") + (b"\1" if is_last else b"\0")
        return AES.new(self.key, AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)


def seal_of(backup_key: bytes, about: str) -> Seal:
    """The seal of a stream whose name is used once: the same one twice would repeat nonces."""
    return Seal(about=about, key=_derived(backup_key, f"parts of {about}"))


def signature(backup_key: bytes, data: bytes) -> str:
    """What proves that a manifest was written by somebody with the key."""
    return hmac.new(_derived(backup_key, "manifests"), data, sha256).hexdigest()


def key_id(backup_key: bytes) -> str:
    """Tells two keys apart without saying anything about either."""
    return _derived(backup_key, "name of the key").hex()[:12]


def _derived(backup_key: bytes, purpose: str) -> bytes:
    key: Any = HKDF(backup_key, _KEY_BYTES, b"", SHA256, context=f"vlaapi backup {purpose}".encode())
    return bytes(key)
