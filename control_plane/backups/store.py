"""Backups as they lie in the object store: streams written and read part by part, manifests, what is there, what goes.

One part is in memory at a time. A backup that was cut short has parts and no manifest; `sweep` removes those. What another key
sealed belongs to another service: it is listed and never removed. Errors of the store (ObjectStoreAwayError) pass through.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256

from control_plane.backups.manifest import (
    MANIFESTS,
    PARTS,
    Begun,
    Facts,
    Manifest,
    Part,
    began_at,
    decode,
    encode,
    manifest_key,
    owner_of,
    part_key,
)
from control_plane.backups.sealing import DamagedBackupError, key_id, seal_of
from control_plane.objects import NoSuchObjectError, ObjectStore


class NoSuchBackupError(Exception):
    """There is no backup of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A stream that is in the store."""

    parts: list[Part]
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """Backups in one store under one key."""

    objects: ObjectStore
    key: bytes = field(repr=False)

    @property
    def owner(self) -> str:
        """What its own backups are told by."""
        return key_id(self.key)

    async def write(self, backup_id: str, pieces: AsyncIterator[bytes]) -> Written:
        """Each piece becomes a part. What `pieces` raises passes through, and there is then no last part."""
        seal, digest, size, parts = seal_of(self.key, backup_id), sha256(), 0, list[Part]()
        piece = await anext(pieces, b"")
        is_last = False
        while not is_last:
            following = await anext(pieces, None)
            is_last = following is None
            sealed = await asyncio.to_thread(seal.close, piece, number=len(parts), is_last=is_last)
            await self.objects.put(part_key(backup_id, len(parts)), sealed)
            parts.append(Part(sha256=sha256(sealed).hexdigest(), size_bytes=len(sealed)))
            digest.update(piece)
            size += len(piece)
            piece = following or b""
        return Written(parts=parts, sha256=digest.hexdigest(), size_bytes=size)

    async def read(self, manifest: Manifest) -> AsyncGenerator[bytes, None]:
        """The stream, part by part; everything but the last part is given before the whole is known to be right."""
        seal, digest = seal_of(self.key, manifest.id), sha256()
        for number, part in enumerate(manifest.parts):
            try:
                sealed = await self.objects.get(part_key(manifest.id, number))
            except NoSuchObjectError:
                raise DamagedBackupError(f"{manifest.id}: part {number} is missing") from None
            if sha256(sealed).hexdigest() != part.sha256:
                raise DamagedBackupError(f"{manifest.id}: part {number} is not what was written")
            is_last = number == len(manifest.parts) - 1
            piece = await asyncio.to_thread(seal.open, sealed, number=number, is_last=is_last)
            digest.update(piece)
            if is_last and digest.hexdigest() != manifest.sha256:
                raise DamagedBackupError(f"{manifest.id}: the whole is not what was written")
            yield piece

    async def finish(self, begun: Begun, facts: Facts, written: Written) -> Manifest:
        """The manifest of what was written, and with it a backup. Raises DamagedBackupError when parts of it are gone already."""
        if len(await self.objects.find(f"{PARTS}{begun.id}/")) != len(written.parts):
            raise DamagedBackupError(f"{begun.id}: parts are gone already; does another service use this place for backups?")
        manifest = Manifest(
            id=begun.id,
            kind=begun.kind,
            began_at=begun.at,
            ended_at=datetime.now(UTC),
            key_id=self.owner,
            facts=facts,
            sha256=written.sha256,
            size_bytes=written.size_bytes,
            parts=written.parts,
        )
        await self.commit(manifest)
        return manifest

    async def commit(self, manifest: Manifest) -> None:
        """From here on it is a backup."""
        data, key = encode(manifest, backup_key=self.key), manifest_key(manifest.id)
        await self.objects.put(key, data)
        if await self.objects.get(key) != data:
            raise DamagedBackupError(f"{manifest.id}: its manifest came back from the store with other bytes")

    async def manifest(self, backup_id: str) -> Manifest:
        """Raises NoSuchBackupError or DamagedBackupError."""
        try:
            data = await self.objects.get(manifest_key(backup_id))
        except NoSuchObjectError:
            raise NoSuchBackupError(f"there is no backup {backup_id!r}; `vlaapi backup list` shows which there are") from None
        return decode(data, backup_key=self.key, backup_id=backup_id)

    async def all_ids(self) -> list[str]:
        """Every backup, whoever made it, oldest first, by name only: reads no manifest."""
        found = await self.objects.find(MANIFESTS)
        names = [stored.key.removeprefix(MANIFESTS).removesuffix(".json") for stored in found]
        return sorted((name for name in names if began_at(name) is not None), key=_age_key)

    async def ids(self) -> list[str]:
        """Those that may be our own: a name from before names held an owner is somebody's until its manifest is read."""
        return [name for name in await self.all_ids() if owner_of(name) in {self.owner, None}]

    async def remove(self, backup_id: str) -> None:
        """First the manifest: what is left when this is cut short is no backup, and the next sweep takes it.

        Raises DamagedBackupError for what another key signed, and NoSuchBackupError.
        """
        await self.manifest(backup_id)
        await self.objects.remove([manifest_key(backup_id)])
        await self.objects.remove([stored.key for stored in await self.objects.find(f"{PARTS}{backup_id}/")])

    async def sweep(self) -> Sequence[str]:
        """Removes own parts that belong to no backup. Call while nobody else writes one with this key. Returns the names."""
        there = set(await self.all_ids())
        stray: dict[str, list[str]] = {}
        for stored in await self.objects.find(PARTS):
            name = stored.key.removeprefix(PARTS).partition("/")[0]
            if name not in there and owner_of(name) == self.owner:
                stray.setdefault(name, []).append(stored.key)
        for keys in stray.values():
            await self.objects.remove(keys)
        return sorted(stray)


def _age_key(backup_id: str) -> tuple[datetime | None, str]:
    return began_at(backup_id), backup_id
