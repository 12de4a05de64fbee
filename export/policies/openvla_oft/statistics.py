"""`dataset_statistics.json` of a fine-tuned checkpoint becomes the scaling of actions and robot state, by un-normalisation key.

The statistics in `config.json` are the base model's and are never read: they would scale the actions wrongly without an error.
It knows no robot: which of the recorded bounds count is the recipe's business. Called by `policy`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from export.contract.statistics import Bounds
from export.policies.adapter import CheckpointError
from export.policies.openvla.config import read_json
from export.policies.openvla_oft.recipe import Scheme

FILE = "dataset_statistics.json"
EPSILON = 1e-8  # the original adds it to every span, for actions and state alike
_FIELDS: dict[Scheme, tuple[str, str]] = {"bounds_q99": ("q01", "q99"), "bounds": ("min", "max")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """One data set's bounds; `state` is None where its statistics hold no proprio."""

    action: Bounds
    state: Bounds | None


def keys_of(folder: Path) -> tuple[str, ...]:
    """The un-normalisation keys in `folder`, in the file's order."""
    return tuple(_entries(folder))


def read_scaling(folder: Path, keys: Sequence[str], scheme: Scheme) -> dict[str, Scaling]:
    """The bounds of each key. Raises CheckpointError naming the file, the key and the field."""
    entries = _entries(folder)
    unknown = [key for key in keys if key not in entries]
    if unknown:
        raise CheckpointError(f"{folder / FILE}: has no {', '.join(unknown)}; its keys are {', '.join(entries)}")
    return {key: _scaling(entries[key], f"{folder / FILE}: {key}", scheme) for key in keys}


def _entries(folder: Path) -> dict[str, Any]:
    if not (folder / FILE).exists():
        raise CheckpointError(f"{folder / FILE}: not found; actions cannot be scaled without it, copy it from the training run")
    entries = read_json(folder / FILE)
    if not entries:
        raise CheckpointError(f"{folder / FILE}: is empty; copy it from the training run")
    return entries


def _scaling(entry: object, where: str, scheme: Scheme) -> Scaling:
    if not isinstance(entry, dict) or "action" not in entry:
        raise CheckpointError(f"{where} has no action statistics; copy the file from the training run")
    state = entry.get("proprio")
    return Scaling(
        action=_bounds(entry["action"], f"{where}.action", scheme),
        state=None if state is None else _bounds(state, f"{where}.proprio", scheme),
    )


def _bounds(entry: object, where: str, scheme: Scheme) -> Bounds:
    below, above = _FIELDS[scheme]
    if not isinstance(entry, dict) or not {below, above} <= entry.keys():
        raise CheckpointError(f"{where} lacks {below} or {above}, which this policy was trained with")
    low, high = _numbers(entry[below], f"{where}.{below}"), _numbers(entry[above], f"{where}.{above}")
    mask = entry.get("mask", [True] * len(low))
    if not isinstance(mask, list) or not all(isinstance(value, bool) for value in mask):
        raise CheckpointError(f"{where}.mask is no list of true and false")
    try:
        return Bounds(scheme=scheme, low=low, high=high, mask=tuple(mask), epsilon=EPSILON)
    except ValidationError as error:
        raise CheckpointError(f"{where}: {error.errors()[0]['msg']}") from None


def _numbers(values: object, where: str) -> tuple[float, ...]:
    is_list = isinstance(values, list) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if not isinstance(values, list) or not is_list or not all(math.isfinite(value) for value in values):
        raise CheckpointError(f"{where} is no list of finite numbers")
    return tuple(float(value) for value in values)
