"""`vlaapi safety calibrate`: reads recorded episodes, fits the thresholds of the informational scores, measures false alarms.

The mathematics is `safety.calibration`'s. Here are the file format (docs/CALIBRATION.md), the split into fitted and held-out
episodes, and the counting. Touches no store; what it writes is unused until a person has signed it.
"""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from control_plane.errors import ApiError
from control_plane.guarding.guards import action_space_of
from export.contract.manifest import Manifest, ManifestError, load_manifest
from safety.calibration import (
    Rollout,
    Thresholds,
    TooFewRolloutsError,
    calibrate,
    outside,
    thresholds_toml,
    worst_disagreement,
)
from safety.guard import Guard
from safety.profile import Preset, RobotProfile

CHUNKS_MAX, NUMBERS_MAX = 10_000, 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What to calibrate from, for whom, and how strictly."""

    rollouts: Path
    out: Path
    policy_folder: Path
    robot: str | None
    profiles: Mapping[str, RobotProfile]
    alpha: float
    held_out: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One calibrated score. `threshold` None: not fitted, for `reason`."""

    name: str
    threshold: float | None
    alarms: int = 0
    held_out: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was fitted and how it does on episodes that were not."""

    out: Path
    policy: str
    robot_type: str
    alpha: float
    fitted: int
    held_out: int
    failed: int
    scores: tuple[Score, ...]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {"out": str(self.out)}


class RolloutFile(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One episode as JSON."""

    chunks: list[list[list[float]]]
    executed_index: list[int]
    is_success: bool
    entropies: list[float] | None = None


def run_task(task: Task) -> Report:
    """Fits on some episodes, measures on the others, writes the file. Raises ApiError naming what is wrong."""
    if not 0 < task.alpha < 1 or not 0 <= task.held_out < 1:
        raise ApiError("invalid_field", "alpha and held_out are shares between 0 and 1.", param="alpha")
    manifest = _manifest(task.policy_folder)
    robot = task.robot or manifest.robots[0]
    if robot not in manifest.robots:
        raise ApiError("unknown_robot", f"The policy fits {', '.join(manifest.robots)}.", param="robot")
    if robot not in task.profiles:
        raise ApiError("unknown_robot", f"There is no safety profile for robot '{robot}'.", param="robot")
    rollouts, failed = read_rollouts(task.rollouts, width=len(manifest.action.names))
    fitted, held_out = split(rollouts, task.held_out)
    scale = Guard(task.profiles[robot], Preset.REDUCED, action_space_of(manifest.action)).step_scale
    try:
        found = calibrate(fitted, policy=manifest.policy, robot_type=robot, scale=scale, alpha=task.alpha)
    except TooFewRolloutsError as error:
        message = f"{error.count} successful episodes to fit on are too few; at least {error.needed} are needed."
        raise ApiError("invalid_field", message, param="rollouts") from None
    task.out.write_text(thresholds_toml(found), encoding="utf-8")
    return Report(
        out=task.out,
        policy=manifest.policy,
        robot_type=robot,
        alpha=task.alpha,
        fitted=len(fitted),
        held_out=len(held_out),
        failed=failed,
        scores=tuple(_scores(found, held_out, scale)),
    )


def split(rollouts: Sequence[Rollout], held_out: float) -> tuple[list[Rollout], list[Rollout]]:
    """Spread evenly over the files in their order, so that neither part is one day's recording."""
    is_held = [int((index + 1) * held_out) > int(index * held_out) for index in range(len(rollouts))]
    pairs = list(zip(rollouts, is_held, strict=True))
    return [one for one, held in pairs if not held], [one for one, held in pairs if held]


def _scores(found: Thresholds, held_out: Sequence[Rollout], scale: NDArray[np.float64]) -> list[Score]:
    def counted(name: str, limit: float | None, worst: Callable[[Rollout], float | None]) -> Score:
        if limit is None:
            return Score(name=name, threshold=None, reason="not fitted: the episodes do not tell it, or are too few")
        values = [value for rollout in held_out if (value := worst(rollout)) is not None]
        return Score(name=name, threshold=limit, alarms=sum(value > limit for value in values), held_out=len(values))

    consistency, entropy, range_ = found.chunk_consistency, found.token_entropy, found.action_range
    low, high = (np.zeros(0), np.zeros(0)) if range_ is None else (np.array(range_.low), np.array(range_.high))
    return [
        counted("chunk_consistency", None if consistency is None else consistency.value, lambda r: worst_disagreement(r, scale)),
        counted("token_entropy", None if entropy is None else entropy.value, lambda r: max(r.entropies) if r.entropies else None),
        counted(
            "action_range",
            None if range_ is None else range_.excess.value,
            lambda r: max(float(outside(chunk, low, high).max()) for chunk in r.chunks),
        ),
    ]


def read_rollouts(folder: Path, *, width: int) -> tuple[list[Rollout], int]:
    """The successful episodes by file name, and how many were not successful. Raises ApiError naming the file at fault."""
    paths = sorted(path for path in folder.glob("*") if path.suffix in {".npz", ".json"}) if folder.is_dir() else []
    if not paths:
        raise ApiError("invalid_field", f"{folder} holds no .npz or .json files.", param="rollouts")
    rollouts, failed = [], 0
    for path in paths:
        table = _read_npz(path) if path.suffix == ".npz" else _read_json(path)
        if not bool(table["is_success"]):
            failed += 1
            continue
        rollouts.append(_rollout(path, table, width))
    return rollouts, failed


def _read_npz(path: Path) -> Mapping[str, Any]:
    try:
        # Opened here, because numpy leaves a file that is no archive open.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            table = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, KeyError) as error:
        raise _broken(path, str(error)) from None
    if not {"chunks", "executed_index", "is_success"} <= set(table):
        raise _broken(path, "chunks, executed_index and is_success are needed")
    if table["is_success"].shape != () or table["is_success"].dtype != np.bool_:
        raise _broken(path, "is_success must be one boolean")
    return table


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        return msgspec.structs.asdict(msgspec.json.decode(path.read_bytes(), type=RolloutFile))
    except (OSError, msgspec.DecodeError) as error:
        raise _broken(path, str(error)) from None


def _rollout(path: Path, table: Mapping[str, Any], width: int) -> Rollout:
    try:
        chunks = np.asarray(table["chunks"], dtype=np.float32)
        executed = np.asarray(table["executed_index"])
        entropies = None if table.get("entropies") is None else np.asarray(table["entropies"], dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise _broken(path, str(error)) from None
    if chunks.ndim != 3 or chunks.shape[2] != width or not 1 <= len(chunks) <= CHUNKS_MAX or chunks.size > NUMBERS_MAX:
        raise _broken(path, f"chunks must be (chunks, steps, {width}), not {chunks.shape}")
    if not np.isfinite(chunks).all():
        raise _broken(path, "chunks holds a number that is not finite")
    if executed.shape != (len(chunks) - 1,) or (executed.size and executed.dtype.kind not in "iu"):
        raise _broken(path, f"executed_index needs {len(chunks) - 1} whole numbers")
    if executed.size and not (executed.min() >= 0 and executed.max() < chunks.shape[1]):
        raise _broken(path, "executed_index points outside its chunk")
    if entropies is not None and (entropies.shape != (len(chunks),) or not np.isfinite(entropies).all()):
        raise _broken(path, f"entropies needs {len(chunks)} finite numbers")
    return Rollout(
        chunks=tuple(chunks),
        executed_index=tuple(int(index) for index in executed),
        entropies=None if entropies is None else tuple(entropies.tolist()),
    )


def _broken(path: Path, fault: str) -> ApiError:
    return ApiError("invalid_field", f"{path}: {fault}.", param="rollouts")


def _manifest(folder: Path) -> Manifest:
    try:
        return load_manifest(folder)
    except ManifestError as error:
        raise ApiError("unknown_model", str(error), param="policy") from None
