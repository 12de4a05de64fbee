"""What a backup says about itself: written after its last part, so that a backup without a manifest is none.

    backups/manifests/<id>.json     signed; a listing of this folder is the list of backups
    backups/parts/<id>/<number>     sealed parts of one stream
    backups/wal/<server>/<file>     sealed files of one server's write-ahead log

A backup's name holds the name of the key it is sealed with: services that share a bucket know their own by it, also before there
is a manifest. Knows no store and no database.
"""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from control_plane.backups.sealing import DamagedBackupError, key_id, signature

MANIFESTS, PARTS, WAL = "backups/manifests/", "backups/parts/", "backups/wal/"
PART_BYTES = 8 << 20  # of the stream before sealing: what one backup holds in memory, a few times over
_INSTANT = "%Y%m%dT%H%M%SZ"


class Kind(StrEnum):
    """What is in the stream."""

    DATABASE = "database"  # pg_dump's own format: one database, of one instant, for any later PostgreSQL
    BASE = "base"  # a tar of the whole server, from which its write-ahead log leads to any later instant


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One object: its hash is of the bytes in the store, so that it can be checked without the key."""

    sha256: str
    size_bytes: int


class LedgerSum(msgspec.Struct, frozen=True, kw_only=True):
    """What one account of the ledger added up to."""

    account: str
    currency: str
    amount_cents: int


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The database at the instant of the backup."""

    server_version: str
    wal_position: str
    wal_file: str = ""  # of a base backup: the file of the log in which it begins
    server: str = ""  # of a base backup: PostgreSQL's own name for this life of the server
    schema_revision: str | None = None
    rows: dict[str, int] = {}
    ledger: list[LedgerSum] = []


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One backup. `sha256` and `size_bytes` are of the stream as it was before sealing."""

    id: str
    kind: Kind
    began_at: datetime
    ended_at: datetime
    key_id: str
    facts: Facts
    sha256: str
    size_bytes: int
    parts: list[Part]
    version: int = 1

    @property
    def stored_bytes(self) -> int:
        """What it takes in the store."""
        return sum(part.size_bytes for part in self.parts)


class _Signed(msgspec.Struct, frozen=True, kw_only=True):
    signature: str
    manifest: msgspec.Raw


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A backup that is being made."""

    id: str
    kind: Kind
    at: datetime


def begin(kind: Kind, *, owner: str) -> Begun:
    """One that begins now."""
    now = datetime.now(UTC)
    return Begun(id=new_id(kind, now, owner=owner), kind=kind, at=now)


def new_id(kind: Kind, now: datetime, *, owner: str) -> str:
    """A name that sorts by time and is never used twice. `owner` is the name of the key."""
    return f"{kind}-{now:{_INSTANT}}-{owner}-{secrets.token_hex(8)}"


def owner_of(backup_id: str) -> str | None:
    """The name of the key in it; None for names from before they held one."""
    words = backup_id.split("-")
    return words[2] if len(words) == 4 else None


def began_at(backup_id: str) -> datetime | None:
    """When the backup of that name was begun; None for what is no such name."""
    try:
        return datetime.strptime(backup_id.split("-")[1], _INSTANT).replace(tzinfo=UTC)
    except (IndexError, ValueError):
        return None


def manifest_key(backup_id: str) -> str:
    """Where its manifest lies."""
    return f"{MANIFESTS}{backup_id}.json"


def part_key(backup_id: str, number: int) -> str:
    """Where a part lies; parts are counted from 0."""
    return f"{PARTS}{backup_id}/{number:06}"


def encode(manifest: Manifest, *, backup_key: bytes) -> bytes:
    """The signed manifest; one line of JSON inside another, readable without the key."""
    inner = msgspec.json.encode(manifest)
    return msgspec.json.encode(_Signed(signature=signature(backup_key, inner), manifest=msgspec.Raw(inner)))


def decode(data: bytes, *, backup_key: bytes, backup_id: str) -> Manifest:
    """Raises DamagedBackupError: with another key, when it was changed, or when it is another backup's."""
    try:
        signed = msgspec.json.decode(data, type=_Signed)
        manifest = msgspec.json.decode(signed.manifest, type=Manifest)
    except msgspec.DecodeError as error:
        raise DamagedBackupError(f"{backup_id}: its manifest cannot be read ({error})") from None
    if manifest.key_id != key_id(backup_key):
        raise DamagedBackupError(f"{backup_id}: was made with the key {manifest.key_id}, VLA_BACKUP_KEY is {key_id(backup_key)}")
    if signature(backup_key, bytes(signed.manifest)) != signed.signature or manifest.id != backup_id:
        raise DamagedBackupError(f"{backup_id}: its manifest was changed after it was written")
    return manifest
