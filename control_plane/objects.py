"""The object store: any S3 through the `minio` SDK, run in threads of its own. Knows no key names: its callers bring theirs.

An object is whole or not there: S3 shows it only after its last byte. Every call is bounded; that the store is away, full or
refuses us is ObjectStoreAwayError, and the caller says what it does then. A bucket that is missing is made, and encrypted.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error
from minio.sseconfig import Rule, SSEConfig

from control_plane.object_place import Place, place_of

_T = TypeVar("_T")

_THREADS = 4
_TRIES = 2
_NOT_THERE = {"NoSuchKey", "NoSuchObject"}
_CHUNK_BYTES = 1 << 20
_PAGE = 1000  # what S3 lists at once


class ObjectStoreAwayError(Exception):
    """The store cannot be reached, did not answer in time, or refuses us. A put may have been done all the same."""


class NoSuchObjectError(Exception):
    """There is no object of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One line of a listing."""

    key: str
    size_bytes: int
    changed_at: datetime


class ObjectStore(Protocol):
    """What the product needs of S3. Each call raises ObjectStoreAwayError; reads also NoSuchObjectError."""

    async def put(self, key: str, data: bytes) -> None:
        """The object, replacing one of that name."""

    async def put_file(self, key: str, path: Path) -> None:
        """The same from a file, in parts where it is large."""

    async def get(self, key: str) -> bytes:
        """All of it."""

    async def get_file(self, key: str, path: Path) -> str:
        """All of it into a file. Returns the SHA-256 of what was read, in hex."""

    def pages(self, prefix: str) -> AsyncIterator[Sequence[StoredObject]]:
        """Every object whose key begins so, by key, some at a time: for prefixes below which there may be any number."""

    async def find(self, prefix: str) -> Sequence[StoredObject]:
        """The same at once."""

    async def remove(self, keys: Sequence[str]) -> None:
        """Those objects; one that is not there is no fault."""

    async def aclose(self) -> None:
        """Ends its threads and connections."""


class S3Objects:
    """The real store. Build with `create_objects`."""

    def __init__(self, place: Place, *, timeout_s: float) -> None:
        self._bucket = place.bucket
        self._pool = urllib3.PoolManager(
            maxsize=_THREADS,
            timeout=urllib3.Timeout(connect=min(timeout_s, 5.0), read=timeout_s),
            retries=urllib3.Retry(total=_TRIES, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504)),
        )
        self._client = Minio(
            place.endpoint,
            access_key=place.access_key,
            secret_key=place.secret_key,
            secure=place.is_secure,
            region=place.region,
            http_client=self._pool,
        )
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="objects")

    async def put(self, key: str, data: bytes) -> None:
        """See ObjectStore."""
        await self._put(lambda: self._client.put_object(self._bucket, key, BytesIO(data), len(data)))

    async def put_file(self, key: str, path: Path) -> None:
        """See ObjectStore."""
        await self._put(lambda: self._client.fput_object(self._bucket, key, str(path)))

    async def get(self, key: str) -> bytes:
        """See ObjectStore."""
        return await self._run(lambda: b"".join(self._chunks(key)))

    async def get_file(self, key: str, path: Path) -> str:
        """See ObjectStore."""

        def read() -> str:
            digest = hashlib.sha256()
            with path.open("wb") as file:
                for chunk in self._chunks(key):
                    digest.update(chunk)
                    file.write(chunk)
            return digest.hexdigest()

        return await self._run(read)

    async def pages(self, prefix: str) -> AsyncIterator[Sequence[StoredObject]]:
        """See ObjectStore."""
        listed = self._listed(prefix)
        try:
            while page := await self._run(lambda: list(islice(listed, _PAGE))):
                yield page
        except _NoBucketError:
            return

    async def find(self, prefix: str) -> Sequence[StoredObject]:
        """See ObjectStore."""
        return [found async for page in self.pages(prefix) for found in page]

    async def remove(self, keys: Sequence[str]) -> None:
        """See ObjectStore."""

        def remove() -> None:
            faults = self._client.remove_objects(self._bucket, [DeleteObject(key) for key in keys])
            for fault in faults:
                raise ObjectStoreAwayError(f"{fault.code} on removing {fault.name}")

        try:
            await self._run(remove)
        except _NoBucketError:
            return

    async def aclose(self) -> None:
        """See ObjectStore."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._pool.clear()

    def _chunks(self, key: str) -> Iterator[bytes]:
        answer = self._client.get_object(self._bucket, key)
        try:
            yield from answer.stream(_CHUNK_BYTES)
        finally:
            answer.close()
            answer.release_conn()

    def _listed(self, prefix: str) -> Iterator[StoredObject]:
        for found in self._client.list_objects(self._bucket, prefix=prefix, recursive=True):
            if found.object_name is not None and found.size is not None and found.last_modified is not None:
                yield StoredObject(key=found.object_name, size_bytes=found.size, changed_at=found.last_modified)

    async def _put(self, put: Callable[[], object]) -> None:
        try:
            await self._run(put)
        except _NoBucketError:
            await self._run(self._make_bucket)
            await self._run(put)

    def _make_bucket(self) -> None:
        try:
            self._client.make_bucket(self._bucket)
        except S3Error as error:
            if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise
        with suppress(S3Error):  # a store that cannot encrypt is told about by `vlaapi storage check`
            self._client.set_bucket_encryption(self._bucket, SSEConfig(Rule.new_sse_s3_rule()))

    async def _run(self, work: Callable[[], _T]) -> _T:
        def guarded() -> _T:
            with _store_errors():
                return work()

        return await asyncio.get_running_loop().run_in_executor(self._threads, guarded)


class _NoBucketError(NoSuchObjectError):
    """Nothing was ever put."""


@contextmanager
def _store_errors() -> Iterator[None]:
    """Foreign errors become ours; their texts are kept, because S3 puts no credentials in them."""
    try:
        yield
    except S3Error as error:
        if error.code in _NOT_THERE:
            raise NoSuchObjectError(error.object_name) from None
        if error.code == "NoSuchBucket":
            raise _NoBucketError(error.bucket_name) from None
        raise ObjectStoreAwayError(f"{error.code}: {error.message}") from error
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
        raise ObjectStoreAwayError(said_by(error)) from error


def said_by(error: Exception) -> str:
    """What went wrong, without the whole story of attempts and addresses."""
    reason = error.reason if isinstance(error, urllib3.exceptions.MaxRetryError) and error.reason else error
    return f"{type(reason).__name__}: {reason}"[:300]


def create_objects(url: str, *, timeout_s: float = 30.0) -> S3Objects:
    """A store that connects lazily; `url` as in `place_of`."""
    return S3Objects(place_of(url), timeout_s=timeout_s)
