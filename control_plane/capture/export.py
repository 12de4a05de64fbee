"""Everything we hold about a customer, as files they can read: JSON lines per table, captured objects as they are.

Tables are found, not listed: whatever has a `customer_id` is in it, so that a room added tomorrow is too. Secrets stay out:
digests and sealed values say nothing to a customer and much to a thief. The folder must be new; one without `index.json`, which
holds the counts and is written last, is an export that was broken off.
"""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.capture.part import ROOT, org_of
from control_plane.db import database_errors
from control_plane.errors import ApiError
from control_plane.identity.public_id import public_id
from control_plane.objects import ObjectStore

INDEX = "index.json"
_SECRET_WORDS = ("digest", "secret", "sealed", "pepper", "password")
_ROWS_AT_ONCE = 1000

# Parents of partitions, not the partitions themselves.
_TABLES = """
SELECT c.relname AS name, a.attname AS of FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND a.attnum > 0 AND NOT a.attisdropped
  AND (a.attname = 'customer_id' OR (c.relname = 'customer_accounts' AND a.attname = 'id')) ORDER BY 1
"""


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
            for table in (await connection.execute(text(_TABLES))).all():
                count = await _table(connection, table.name, table.of, (customer_id, out))
                if count:
                    rows[table.name] = count
    count, size = (0, 0) if objects is None else await _objects(objects, customer_id, out)
    index = {"customer": public_id("cus", customer_id), "rows": rows, "objects": count, "object_bytes": size}
    (out / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    return Exported(rows=rows, objects=count, size_bytes=size)


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True)
    except FileExistsError:
        raise ApiError("invalid_field", f"{out} is there already: an export goes into a new folder.", param="out") from None


async def _table(connection: AsyncConnection, name: str, of: str, place: tuple[UUID, Path]) -> int:
    customer_id, out = place
    path, count = out / f"{name}.jsonl.gz", 0
    async for line in _lines(connection, name, of, customer_id):
        if not count:
            file = gzip.open(path, "wb")  # noqa: SIM115 -- opened for the first of many lines
        file.write(line)
        count += 1
    if count:
        file.close()
    return count


async def _lines(connection: AsyncConnection, name: str, of: str, customer_id: UUID) -> AsyncIterator[bytes]:
    query = text(f'SELECT * FROM "{name}" WHERE "{of}" = :id')  # noqa: S608 -- names from the database's own catalogue
    async with connection.stream(query, {"id": customer_id}) as found:
        async for rows in found.mappings().partitions(_ROWS_AT_ONCE):
            for row in rows:
                shown = {key: _shown(value) for key, value in row.items() if not any(word in key for word in _SECRET_WORDS)}
                yield msgspec.json.encode(shown, enc_hook=str) + b"\n"


def _shown(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes | memoryview) else value


async def _objects(objects: ObjectStore, customer_id: UUID, out: Path) -> tuple[int, int]:
    org, count, size = f"/org={org_of(customer_id)}/", 0, 0
    for found in await objects.find(ROOT):
        if org not in found.key:
            continue
        path = out / "objects" / found.key.removeprefix(ROOT)
        path.parent.mkdir(parents=True, exist_ok=True)
        await objects.get_file(found.key, path)
        count, size = count + 1, size + found.size_bytes
    return count, size
