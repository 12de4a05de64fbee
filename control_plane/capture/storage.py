"""The bucket: made, encrypted and given lifecycle rules by `vlaapi storage set-up`; looked at by `vlaapi storage check`.

Works with any S3. Encryption is the store's own (SSE-S3), asked for per bucket; the check believes only what the store says of an
 object that was just put. The lifecycle is a second net below our own sweeper, for stores that keep it. Synchronous: a command.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error
from minio.sseconfig import Rule as SSERule
from minio.sseconfig import SSEConfig

from control_plane.capture.lifecycle import missing_rules, set_lifecycle
from control_plane.object_place import Place, place_of
from control_plane.objects import said_by

_TIMEOUT_S = 10.0
_SKEW = timedelta(minutes=5)
_PROBE = "check/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    what: str
    is_good: bool
    detail: str


class _Wrong(Exception):  # noqa: N818 -- reads as what was found
    """What a check found; the text says it."""


def set_up(url: str) -> None:
    """Makes the bucket if it is missing, and gives it encryption and our lifecycle rules. Raises StorageError."""
    place = place_of(url)
    with _client(place) as client, _storage_errors():
        if not client.bucket_exists(place.bucket):
            client.make_bucket(place.bucket)
        if client.get_bucket_encryption(place.bucket) is None:  # else it is the operator's: a key of their own, perhaps
            client.set_bucket_encryption(place.bucket, SSEConfig(SSERule.new_sse_s3_rule()))
        set_lifecycle(client, place.bucket)


class StorageError(Exception):
    """The store cannot be reached, or refuses; the text says what it said."""


def check(url: str) -> Iterator[Finding]:
    """Everything that must be so, one finding each, in order; what cannot be asked is a bad finding, never an exception."""
    place = place_of(url)
    with _client(place) as client:
        looks: dict[str, Callable[[Minio, Place], str]] = {
            "reachable, credentials good": _look_at_bucket,
            "an object comes back as it was put": _look_at_round_trip,
            "objects are encrypted at rest": _look_at_encryption,
            "what is over is removed (lifecycle)": _look_at_lifecycle,
            "nothing without credentials": _look_at_strangers,
            "its clock is ours": _look_at_clock,
        }
        for what, look in looks.items():
            try:
                with _storage_errors():
                    yield Finding(what=what, is_good=True, detail=look(client, place))
            except (_Wrong, StorageError) as wrong:
                yield Finding(what=what, is_good=False, detail=str(wrong))


def _look_at_bucket(client: Minio, place: Place) -> str:
    if not client.bucket_exists(place.bucket):
        raise _Wrong(f"there is no bucket {place.bucket}: `vlaapi storage set-up` makes it")
    return f"bucket {place.bucket} at {place.endpoint}"


@contextmanager
def _probe(client: Minio, place: Place, data: bytes) -> Iterator[str]:
    key = f"{_PROBE}{secrets.token_hex(8)}"
    client.put_object(place.bucket, key, BytesIO(data), len(data))
    try:
        yield key
    finally:
        client.remove_object(place.bucket, key)


def _look_at_round_trip(client: Minio, place: Place) -> str:
    data = secrets.token_bytes(100_000)
    with _probe(client, place, data) as key:
        answer = client.get_object(place.bucket, key)
        try:
            found = answer.read()
        finally:
            answer.close()
            answer.release_conn()
    if found != data:
        raise _Wrong("other bytes came back")
    if any(True for _ in client.list_objects(place.bucket, prefix=key)):
        raise _Wrong("a removed object is still listed")
    return f"{len(data)} bytes put, read, removed"


def _look_at_encryption(client: Minio, place: Place) -> str:
    with _probe(client, place, b"is this encrypted?") as key:
        headers = client.stat_object(place.bucket, key).metadata or {}
    told = {name.lower(): value for name, value in headers.items()}.get("x-amz-server-side-encryption")
    if told is None:
        raise _Wrong("the store does not say that it encrypts: `vlaapi storage set-up` asks for it")
    return f"{told}, says the store of an object just put"


def _look_at_lifecycle(client: Minio, place: Place) -> str:
    missing, count = missing_rules(client, place.bucket)
    if missing:
        raise _Wrong(f"no rule {', '.join(missing)}: `vlaapi storage set-up` sets them")
    return f"{count} rules; the worker's own sweeper does not rely on them"


def _look_at_strangers(client: Minio, place: Place) -> str:
    scheme = "https" if place.is_secure else "http"
    with _probe(client, place, b"not for strangers") as key, closing_pool() as pool:
        for address in (
            f"{scheme}://{place.endpoint}/{place.bucket}/{key}",
            f"{scheme}://{place.endpoint}/{place.bucket}?list-type=2",
        ):
            status = pool.request("GET", address, retries=False).status
            if status not in {401, 403}:
                raise _Wrong(f"a request without credentials was answered with HTTP {status}")
    return "reading and listing are refused"


def _look_at_clock(_client: Minio, place: Place) -> str:
    with closing_pool() as pool:
        scheme = "https" if place.is_secure else "http"
        date = pool.request("GET", f"{scheme}://{place.endpoint}/", retries=False).headers.get("Date")
    if date is None:
        return "it tells no time"
    apart = abs(datetime.now(UTC) - datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC))
    if apart > _SKEW:
        raise _Wrong(f"it is {apart} off: signatures are refused at 15 minutes")
    return f"within {apart.total_seconds():.0f} s"


@contextmanager
def closing_pool() -> Iterator[urllib3.PoolManager]:
    """Connections that end with the block."""
    pool = urllib3.PoolManager(timeout=_TIMEOUT_S)
    try:
        yield pool
    finally:
        pool.clear()


@contextmanager
def _client(place: Place) -> Iterator[Minio]:
    pool = urllib3.PoolManager(timeout=_TIMEOUT_S, retries=urllib3.Retry(total=1))
    try:
        yield Minio(
            place.endpoint,
            access_key=place.access_key,
            secret_key=place.secret_key,
            secure=place.is_secure,
            region=place.region,
            http_client=pool,
        )
    finally:
        pool.clear()


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except S3Error as error:
        raise StorageError(f"{error.code}: {error.message}") from error
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
        raise StorageError(said_by(error)) from error
