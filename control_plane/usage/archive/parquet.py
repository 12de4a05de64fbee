"""Rows of one day to a Parquet file, and a file back to the counts that roll-ups hold. Flat in memory, whatever a day weighs.

The counting way back shares nothing with the SQL that made the roll-ups: it is what the audit trusts. Blocking; run in a thread.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from control_plane.usage.archive.manifest import Counts
from control_plane.usage.roll_ups import COUNTS

ROWS_PER_GROUP = 10_000

_MATRIX = pa.list_(pa.list_(pa.float32()))
_INSTANT = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("timestamp", _INSTANT, nullable=False),
        pa.field("customer_id", pa.string(), nullable=False),
        pa.field("key_id", pa.string(), nullable=False),
        *(pa.field(name, pa.string()) for name in ("route", "model")),
        pa.field("model_version", pa.int32()),
        *(pa.field(name, pa.string()) for name in ("robot_type", "instruction", "action")),
        pa.field("action_chunk", _MATRIX),
        pa.field("raw_action", _MATRIX),
        pa.field("safety_score", pa.float64()),
        *(pa.field(name, pa.string()) for name in ("decision", "limiting_rule")),
        *(pa.field(name, pa.float64()) for name in ("latency_ms", "compute_ms")),
        pa.field("status", pa.string(), nullable=False),
        *(pa.field(name, pa.string()) for name in ("error_code", "session_id")),
        pa.field("is_billable", pa.bool_(), nullable=False),
        pa.field("is_test", pa.bool_(), nullable=False),
        pa.field("payload_hash", pa.binary(), nullable=False),
        pa.field("recorded_at", _INSTANT, nullable=False),
    ]
)
COLUMNS = tuple(SCHEMA.names)
_AS_TEXT = ("request_id", "customer_id", "key_id")
_COUNTED = ["customer_id", "status", "is_billable", "is_test", "compute_ms"]


class DamagedFileError(Exception):
    """It is no Parquet file of ours."""


class DayWriter:
    """Use as `with DayWriter(path) as writer: writer.add(rows)`."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")

    def __enter__(self) -> "DayWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, rows: Iterable[Mapping[str, object]]) -> None:
        """One row group."""
        columns: dict[str, list[object]] = {name: [] for name in COLUMNS}
        for row in rows:
            for name, column in columns.items():
                column.append(str(row[name]) if name in _AS_TEXT else row[name])
        self._writer.write_table(pa.table(columns, schema=SCHEMA))


def count_again(path: Path) -> Counts:
    """What each customer's rows in the file add up to. Raises DamagedFileError."""
    counts: Counts = defaultdict(lambda: dict.fromkeys(COUNTS, 0))
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(SCHEMA):
                raise DamagedFileError("its columns are not those of the log")
            for group in range(file.num_row_groups):
                _add(counts, file.read_row_group(group, columns=_COUNTED))
    except (pa.ArrowInvalid, OSError) as error:
        raise DamagedFileError(str(error).splitlines()[0]) from None
    return dict(counts)


def rows_of(path: Path, customer_id: UUID) -> Iterator[dict[str, object]]:
    """One customer's rows in the file."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            yield from table.filter(pc.equal(table["customer_id"], str(customer_id))).to_pylist()


def _add(counts: Counts, table: pa.Table) -> None:
    table = table.filter(pc.invert(table["is_test"]))  # logged, and in no roll-up
    customers, places = np.unique(table["customer_id"].to_numpy(), return_inverse=True)
    status = table["status"].to_numpy()
    # As PostgreSQL rounds a double: halves to even.
    compute_us = np.rint(np.nan_to_num(table["compute_ms"].to_numpy()) * 1000).astype(np.int64)
    measured = {
        "requests": np.ones(len(table), np.int64),
        "billable_requests": table["is_billable"].to_numpy(),
        "refused": status == "refused",
        "invalid": status == "invalid",
        "failed": (status == "timeout") | (status == "error"),
        "compute_us": compute_us,
    }
    for name, values in measured.items():
        sums = np.zeros(len(customers), np.int64)
        np.add.at(sums, places, values.astype(np.int64))
        for customer, amount in zip(customers, sums, strict=True):
            counts[UUID(customer)][name] += int(amount)
