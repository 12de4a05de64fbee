"""Everything we hold about a customer, as files they can read: JSON lines per table, captured objects as they are.

Which rows is `held`'s to say; days of the log that have left the database come from their files. Secrets stay out: digests and
sealed values say nothing to a customer and much to a thief. The folder must be new; one without `index.json`, which holds the
counts and is written last, is an export that was broken off.
"""

import asyncio
import gzip
import json
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.capture.held import held_of
from control_plane.capture.letters import event_in, letters_of
from control_plane.capture.part import ROOT, org_of
from control_plane.db import database_errors
from control_plane.errors import ApiError
from control_plane.identity.public_id import public_id
from control_plane.objects import NoSuchObjectError, ObjectStore
from control_plane.usage.archive.parquet import rows_of

INDEX = "index.json"
_FROM_FILES = "inference_logs_archived"
_ARCHIVED = "SELECT object_key FROM usage_archive WHERE dropped_at IS NOT NULL AND object_key IS NOT NULL ORDER BY day"
_SECRET_WORDS = ("digest", "secret", "sealed", "pepper", "password")
_ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written: rows per table, objects, bytes."""

    rows: Mapping[str, int]
    objects: int
    size_bytes: int


async def export(engine: AsyncEngine, objects: ObjectStore | None, customer_id: UUID, out: Path) -> Exported:
    """Writes it into `out`. Raises ApiError, DatabaseAwayError, ObjectStoreAwayError; nothing is changed anywhere."""
    rows: dict[str, int] = {}
    with database_errors():
        async with engine.execution_options(isolation_level="REPEATABLE READ").connect() as connection:
            if not await connection.scalar(text("SELECT 1 FROM customer_accounts WHERE id = :id"), {"id": customer_id}):
                raise ApiError("not_found", f"there is no customer {public_id('cus', customer_id)}.", param="customer")
            await asyncio.to_thread(_make, out)
            for name, condition in (await held_of(connection)).items():
                rows[name] = await _write(out / f"{name}.jsonl.gz", _rows(connection, name, condition, customer_id))
            letters = [payload async for page in letters_of(connection, customer_id) for payload in page]
            days = (await connection.scalars(text(_ARCHIVED))).all()
    rows["usage_dead_letters"] = await _write(out / "usage_dead_letters.jsonl.gz", _each(map(_event, letters)))
    rows[_FROM_FILES] = await _write(out / f"{_FROM_FILES}.jsonl.gz", _archived(objects, days, customer_id))
    rows = {name: count for name, count in rows.items() if count}
    count, size = (0, 0) if objects is None else await _objects(objects, customer_id, out)
    index = {"customer": public_id("cus", customer_id), "rows": rows, "objects": count, "object_bytes": size}
    (out / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    return Exported(rows=rows, objects=count, size_bytes=size)


def _make(out: Path) -> None:
    with _disk_errors(out):
        try:
            out.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            raise ApiError("invalid_field", f"{out} is there already: an export goes into a new folder.", param="out") from None


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Inside `database_errors`, where an OSError would be the database's."""
    try:
        yield
    except OSError as error:
        raise ApiError("invalid_field", f"{path} cannot be written: {error.strerror}.", param="out") from None


async def _write(path: Path, rows: AsyncIterator[Mapping[str, Any]]) -> int:
    """One line each; no file for none."""
    count = 0
    with ExitStack() as stack:
        async for row in rows:
            shown = {key: _shown(value) for key, value in row.items() if not any(word in key for word in _SECRET_WORDS)}
            with _disk_errors(path):
                if not count:
                    file = stack.enter_context(gzip.open(path, "wb"))
                file.write(msgspec.json.encode(shown, enc_hook=str) + b"\n")
            count += 1
        with _disk_errors(path):
            stack.close()
    return count


async def _rows(connection: AsyncConnection, name: str, condition: str, customer_id: UUID) -> AsyncIterator[Mapping[str, Any]]:
    query = text(f'SELECT * FROM "{name}" WHERE {condition}')  # noqa: S608 -- from the database's own catalogue
    async with connection.stream(query, {"id": customer_id}) as found:
        async for rows in found.mappings().partitions(_ROWS_AT_ONCE):
            for row in rows:
                yield row  # type: ignore[misc]  # a mapping by column name


async def _each(rows: Iterable[Mapping[str, Any]]) -> AsyncIterator[Mapping[str, Any]]:
    for row in rows:
        yield row


def _event(payload: bytes) -> Mapping[str, Any]:
    """A usage event that could not become a row; as its bytes, where they cannot be read."""
    event = event_in(payload)
    return {"payload": payload} if event is None else msgspec.to_builtins(event)


async def _archived(objects: ObjectStore | None, keys: Sequence[str], customer_id: UUID) -> AsyncIterator[Mapping[str, Any]]:
    """Rows of the log in the files of days that have left the database."""
    if not keys:
        return
    if objects is None:
        raise ApiError(
            "missing_field", "months of the log are in the object store: set VLA_OBJECT_STORE_URL.", param="object_store_url"
        )
    with tempfile.TemporaryDirectory(prefix="vlaapi-export-") as folder:
        for key in keys:
            path = Path(folder) / "day.parquet"
            await objects.get_file(key, path)
            for row in rows_of(path, customer_id):
                yield row


def _shown(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes | memoryview) else value


async def _objects(objects: ObjectStore, customer_id: UUID, out: Path) -> tuple[int, int]:
    org, count, size = f"/org={org_of(customer_id)}/", 0, 0
    async for page in objects.pages(ROOT):
        for found in (one for one in page if org in one.key):
            path = out / "objects" / found.key.removeprefix(ROOT)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                await objects.get_file(found.key, path)
            except NoSuchObjectError:  # its time was over, since it was listed
                path.unlink()
                continue
            count, size = count + 1, size + found.size_bytes
    return count, size
