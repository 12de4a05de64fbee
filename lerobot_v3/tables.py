"""The Parquet files: frames (one row group per episode), episodes and tasks, with the columns that LeRobot's reader asks for.

`tasks.parquet` carries the description by which pandas finds its index, without pandas. Files are written beside their place and
moved there when they are whole. Knows no video.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lerobot_v3.facts import COUNTED, DatasetFacts

PART = ".part"
_ARROW = {"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_()}


def frame_schema(facts: DatasetFacts) -> pa.Schema:
    """Lists of fixed length, or plain values where a feature is one number."""
    own = [
        (key, _ARROW[of.dtype] if len(of.names) == 1 else pa.list_(_ARROW[of.dtype], len(of.names)))
        for key, of in facts.numbers.items()
    ]
    return pa.schema([*own, *((key, _ARROW[dtype]) for key, dtype in COUNTED.items())])


def frame_table(schema: pa.Schema, columns: Mapping[str, NDArray[np.generic]]) -> pa.Table:
    """One episode's frames: each column (T, D), or (T,)."""
    arrays = []
    for field in schema:
        flat = pa.array(np.ascontiguousarray(columns[field.name]).reshape(-1))
        is_list = pa.types.is_fixed_size_list(field.type)
        arrays.append(pa.FixedSizeListArray.from_arrays(flat, field.type.list_size) if is_list else flat)
    return pa.Table.from_arrays(arrays, schema=schema)


def write_frames(path: Path, schema: pa.Schema, episodes: Iterable[pa.Table]) -> None:
    """The whole file, one row group per episode, so that one episode is read by one range of bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + PART)
    with pq.ParquetWriter(part, schema, compression="snappy", use_dictionary=True) as writer:
        for table in episodes:
            writer.write_table(table, row_group_size=max(1, table.num_rows))
    part.replace(path)


def read_frames(path: Path, episode: int) -> dict[str, NDArray[np.generic]]:
    """One episode's columns, as they were given; only its row group is read where it has one of its own."""
    table = pq.read_table(path, filters=[("episode_index", "==", episode)])
    columns = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        is_list = pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type)
        flat = (column.flatten() if is_list else column).to_numpy(zero_copy_only=False)
        columns[name] = flat.reshape(len(table), -1) if is_list else flat
    return columns


def write_episodes(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One row per episode. It is the last file of a shard: what has no row here is not in the dataset."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + PART)
    pq.write_table(pa.Table.from_pylist(list(rows)), part, compression="snappy", use_dictionary=True)
    part.replace(path)


def read_episodes(folder: Path) -> list[dict[str, Any]]:
    """Every row, by file."""
    found: list[dict[str, Any]] = []
    for path in sorted((folder / "meta/episodes").glob("*/*.parquet")):
        found.extend(pq.read_table(path).to_pylist())
    return found


def write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """Numbered in this order. The words are pandas' index, as LeRobot looks them up."""
    index = "__index_level_0__"
    words = {"name": None, "field_name": index, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    number = {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64", "metadata": None}
    described = {
        "index_columns": [index],
        "column_indexes": [
            {
                "name": None,
                "field_name": None,
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": {"encoding": "UTF-8"},
            }
        ],
        "columns": [number, words],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), index: pa.array(tasks, pa.string())})
    part = path.with_name(path.name + PART)
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(described)}), part)
    part.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Readable, and never half there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + PART)
    part.write_text(json.dumps(value, indent=4, ensure_ascii=False) + "\n")
    part.replace(path)


def read_json(path: Path) -> Any:
    """What `write_json` wrote."""
    return json.loads(path.read_text())
