"""An object store in memory, for tests of what happens when the store misbehaves. Held equal to S3 by test_objects."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from control_plane.objects import NoSuchObjectError, ObjectStoreAwayError, StoredObject


class FakeObjects:
    """`fails` is asked before every call, with its verb and key: True makes the store away."""

    def __init__(self, *, fails: Callable[[str, str], bool] = lambda _verb, _key: False) -> None:
        self.kept: dict[str, bytes] = {}
        self.fails = fails

    async def put(self, key: str, data: bytes) -> None:
        """See ObjectStore."""
        self._ask("put", key)
        self.kept[key] = data

    async def put_file(self, key: str, path: Path) -> None:
        """See ObjectStore."""
        await self.put(key, await asyncio.to_thread(path.read_bytes))

    async def get(self, key: str) -> bytes:
        """See ObjectStore."""
        self._ask("get", key)
        if key not in self.kept:
            raise NoSuchObjectError(key)
        return self.kept[key]

    async def get_file(self, key: str, path: Path) -> str:
        """See ObjectStore."""
        await asyncio.to_thread(path.write_bytes, await self.get(key))
        return hashlib.sha256(self.kept[key]).hexdigest()

    async def find(self, prefix: str) -> Sequence[StoredObject]:
        """See ObjectStore."""
        self._ask("find", prefix)
        now = datetime.now(UTC)
        return [
            StoredObject(key=key, size_bytes=len(data), changed_at=now)
            for key, data in sorted(self.kept.items())
            if key.startswith(prefix)
        ]

    async def pages(self, prefix: str) -> AsyncIterator[Sequence[StoredObject]]:
        """See ObjectStore."""
        if found := await self.find(prefix):
            yield found

    async def remove(self, keys: Sequence[str]) -> None:
        """See ObjectStore."""
        for key in keys:
            self._ask("remove", key)
            self.kept.pop(key, None)

    async def aclose(self) -> None:
        """Nothing to end."""

    def _ask(self, verb: str, key: str) -> None:
        if self.fails(verb, key):
            raise ObjectStoreAwayError(f"{verb} {key}")
