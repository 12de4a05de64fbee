"""The folder of a dataset: which one it is, what it is made of, and how another takes its place.

A dataset that is built anew is written to OUT.rebuilding. Then OUT becomes OUT.deleted, the new one becomes OUT, and the old one
is removed. Wherever a run was killed, the next one puts right what it left: what was deleted does not stay in a folder beside.
Blocking. Knows no database.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from control_plane.errors import ApiError
from lerobot_v3.facts import CODEBASE_VERSION, DatasetFacts, facts_of
from lerobot_v3.tables import PART, read_json, write_json

TRAIN, HELD_OUT = "train", "held_out"
MARKER = "dataset.json"
_FACTS = "meta/facts.json"  # the writer's


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Which dataset a folder is, and what was asked for."""

    dataset: UUID
    asked: Mapping[str, Any]


def mark_of(folder: Path) -> Mark | None:
    """None: nothing is there. Raises ApiError for anything else than a dataset."""
    if not folder.exists() or {path.name for path in folder.iterdir()} <= {MARKER + PART}:
        return None
    try:
        found = read_json(folder / MARKER)
        return Mark(dataset=UUID(found["dataset"]), asked=dict(found["asked"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise ApiError("invalid_field", f"{folder} is neither empty nor a dataset that was built here.", param="out") from None


def make(folder: Path, mark: Mark) -> None:
    """An empty dataset."""
    write_json(folder / MARKER, {"dataset": str(mark.dataset), "asked": mark.asked})


def facts_in(folder: Path) -> DatasetFacts | None:
    """What is the same for all its episodes, since its first. None: it has none yet."""
    for split in splits_in(folder):
        return facts_of({"codebase_version": CODEBASE_VERSION, **read_json(folder / split / _FACTS)})
    return None


def splits_in(folder: Path) -> list[str]:
    """The sides that were begun."""
    return [split for split in (TRAIN, HELD_OUT) if (folder / split / _FACTS).exists()]


def rebuilding(out: Path) -> Path:
    """Where the one that takes its place is written."""
    return out.with_name(f"{out.name}.rebuilding")


def _old(out: Path) -> Path:
    return out.with_name(f"{out.name}.deleted")


def swap(out: Path) -> None:
    """The rebuilt one takes the place of the old one, which goes."""
    _refuse_in_the_way(out)
    out.rename(_old(out))
    rebuilding(out).rename(out)
    remove(_old(out))


def repair(out: Path) -> None:
    """What is left of a run that was killed in `swap`. Raises ApiError when something else has one of its names."""
    if (old := _old(out)).exists():
        _refuse_in_the_way(out)
        if not out.exists() and (rebuilding(out) / MARKER).exists():  # between the two names: it was whole
            rebuilding(out).rename(out)
        remove(old)


def _refuse_in_the_way(out: Path) -> None:
    old = _old(out)
    if old.exists() and not (old / MARKER).exists() and any(old.iterdir()):  # empty: its removal was cut short at the last step
        raise ApiError("invalid_field", f"{old} is in the way: {out} is built anew by way of that name.", param="out")


def remove(folder: Path) -> None:
    """All of it, its marker last: whoever is killed meanwhile leaves something that is known to be a dataset."""
    for path in list(folder.iterdir()):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != MARKER:
            path.unlink()
    (folder / MARKER).unlink(missing_ok=True)
    folder.rmdir()
