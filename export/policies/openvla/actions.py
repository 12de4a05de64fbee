"""From action tokens to physical units: the statistics of a checkpoint and the table that a graph looks actions up in.

`dataset_statistics.json` beside the weights replaces the `norm_stats` of `config.json`, as in the original server. It knows no
network. Called by `policy`; the OFT family reads the same statistics.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.contract.statistics import Bounds
from export.policies.adapter import CheckpointError
from export.policies.openvla.config import CONFIG_FILE, read_json

STATISTICS_FILE = "dataset_statistics.json"


def read_statistics(folder: Path, keys: tuple[str, ...] | None) -> dict[str, Bounds]:
    """The action statistics by un-normalisation key: of `keys`, or of all. Raises CheckpointError.

    Every key must describe actions of the same length, because one served policy answers with one length.
    """
    entries = read_entries(folder)
    chosen = tuple(entries) if keys is None else keys
    unknown = [key for key in chosen if key not in entries]
    if unknown or not chosen:
        raise CheckpointError(f"{folder}: unknown unnorm key {_named(unknown)}; the checkpoint knows {_named(entries)}")
    found = {key: _bounds(entries[key], f"{folder}: norm_stats[{key}].action") for key in chosen}
    lengths = {key: one.length for key, one in found.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise CheckpointError(f"{folder}: actions differ in length ({listed}); choose keys of one length with --unnorm-key")
    return found


def read_entries(folder: Path) -> dict[str, Any]:
    """The statistics as written, by un-normalisation key."""
    if (folder / STATISTICS_FILE).exists():
        entries: Any = read_json(folder / STATISTICS_FILE)
    else:
        entries = read_json(folder / CONFIG_FILE).get("norm_stats")
    if not isinstance(entries, dict) or not entries:
        raise CheckpointError(f"{folder}: no norm_stats; add the {STATISTICS_FILE} that the training run wrote")
    return entries


def _bounds(entry: Any, where: str) -> Bounds:
    action = entry.get("action") if isinstance(entry, dict) else None
    if not isinstance(action, dict) or not {"q01", "q99"} <= action.keys():
        raise CheckpointError(f"{where} lacks q01 and q99; use the {STATISTICS_FILE} that the training run wrote")
    low, high = _numbers(action["q01"], f"{where}.q01"), _numbers(action["q99"], f"{where}.q99")
    mask = action.get("mask")
    mask = [True] * len(low) if mask is None else list(mask)
    if not len(low) == len(high) == len(mask) or not low:
        raise CheckpointError(f"{where}: q01, q99 and mask have {len(low)}, {len(high)} and {len(mask)} numbers; they must agree")
    if any(lower > upper for lower, upper in zip(low, high, strict=True)):
        raise CheckpointError(f"{where}: q01 is above q99; the statistics are damaged")
    return Bounds(scheme="bounds_q99", low=low, high=high, mask=tuple(bool(one) for one in mask), epsilon=0.0)


def _numbers(values: Any, where: str) -> tuple[float, ...]:
    if not isinstance(values, list) or not all(isinstance(one, int | float) and math.isfinite(one) for one in values):
        raise CheckpointError(f"{where} must be a list of finite numbers; the statistics are damaged")
    return tuple(float(one) for one in values)


def _named(keys: Iterable[str]) -> str:
    return ", ".join(map(repr, keys)) or "(none)"


def table(statistics: dict[str, Bounds], *, n_action_bins: int) -> NDArray[np.float32]:
    """(keys, n, n_action_bins − 1): what each bin means in physical units, computed in float64 as the original does.

    Bin 0 is the id just below the vocabulary's end. A bin means its centre, not its edge.
    """
    edges = np.linspace(-1.0, 1.0, n_action_bins)
    centres = (edges[:-1] + edges[1:]) / 2.0
    return np.stack([_scaled(one, centres) for one in statistics.values()]).astype(np.float32)


def _scaled(one: Bounds, centres: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high, mask = (np.array(values)[:, None] for values in (one.low, one.high, one.mask))
    return np.where(mask, 0.5 * (centres + 1.0) * (high - low + one.epsilon) + low, centres)
