"""Thresholds for the scores that only inform (E2, F1, F2), fitted on successful rollouts by split conformal prediction.

Pure: arrays in, thresholds out, and a TOML file that does nothing until a person has signed it. The command line is the control
plane's; the rules read `Thresholds`.
"""

import datetime
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safety.overlap import disagreement

ALPHA = 0.05
WIDTH_MIN = 1e-9  # of a range of numbers: narrower ones say nothing, and a share of them overflows
FORMAT = 1


class TooFewRolloutsError(Exception):
    """With so few rollouts no threshold has the wanted coverage; `needed` is how many would do."""

    def __init__(self, count: int, needed: int) -> None:
        self.count = count
        self.needed = needed
        super().__init__(f"{count} rollouts are too few; at least {needed} are needed")


class ThresholdsError(Exception):
    """A thresholds file that cannot be used; `fault` says why."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        super().__init__(fault)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One successful episode: its chunks (T, D) in order, and after which step of each the next one was asked for.

    `executed_index` has one number fewer than `chunks`; `entropies` one mean token entropy (share of the maximum) per chunk.
    """

    chunks: tuple[NDArray[np.float32], ...]
    executed_index: tuple[int, ...]
    entropies: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A value that a new successful rollout exceeds anywhere with probability at most `alpha`, from `rollouts` of them."""

    value: float
    alpha: float
    rollouts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRange:
    """Per column the 1st and 99th percentile of the fitted actions, and how far outside (in half-widths) successes went."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    excess: Threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What a reviewed file holds. None: not calibrated, so the rule only informs."""

    policy: str
    robot_type: str
    chunk_consistency: Threshold | None = None
    token_entropy: Threshold | None = None
    action_range: ActionRange | None = None


def conformal_threshold(scores: Sequence[float], alpha: float = ALPHA) -> Threshold:
    """The ⌈(n + 1)(1 − alpha)⌉-th smallest of one score per rollout. Raises TooFewRolloutsError when n is below that rank."""
    count, rank = len(scores), math.ceil((len(scores) + 1) * (1 - alpha))
    if rank > count:
        raise TooFewRolloutsError(count, math.ceil((1 - alpha) / alpha))
    return Threshold(value=float(sorted(scores)[rank - 1]), alpha=alpha, rollouts=count)


def calibrate(
    rollouts: Sequence[Rollout], *, policy: str, robot_type: str, scale: NDArray[np.float64], alpha: float = ALPHA
) -> Thresholds:
    """Fits what the rollouts allow. `scale` (D,) is `safety.guard.Guard.step_scale`: the largest allowed step per column.

    A rollout's score is its worst moment, so `alpha` is the share of successful rollouts with any false alarm. The action range
    uses every second rollout for its percentiles and the others for its threshold, so it needs twice as many. Raises
    TooFewRolloutsError.
    """
    overlaps = [score for rollout in rollouts if (score := worst_disagreement(rollout, scale)) is not None]
    entropies = [max(rollout.entropies) for rollout in rollouts if rollout.entropies]
    if not rollouts:
        raise TooFewRolloutsError(0, math.ceil((1 - alpha) / alpha))
    return Thresholds(
        policy=policy,
        robot_type=robot_type,
        chunk_consistency=conformal_threshold(overlaps, alpha) if overlaps else None,
        token_entropy=conformal_threshold(entropies, alpha) if entropies else None,
        action_range=_fitted_range(rollouts[::2], rollouts[1::2], alpha),
    )


def worst_disagreement(rollout: Rollout, scale: NDArray[np.float64]) -> float | None:
    """The largest disagreement between two consecutive chunks; None when none overlap."""
    pairs = zip(rollout.chunks, rollout.chunks[1:], rollout.executed_index, strict=False)
    found = (disagreement(old, new, executed, scale) for old, new, executed in pairs)
    return max((score for score in found if score is not None), default=None)


def outside(actions: NDArray[np.floating], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, D): how far each number is outside [low, high], in half-widths of that range; 0 inside or where it has no width."""
    half = (high - low) / 2
    beyond = np.maximum(np.maximum(low - actions, actions - high), 0.0)
    shares: NDArray[np.float64] = np.divide(beyond, half, out=np.zeros(actions.shape), where=half > WIDTH_MIN / 2)
    return shares


def _fitted_range(fitted: Sequence[Rollout], held_out: Sequence[Rollout], alpha: float) -> ActionRange | None:
    if len(held_out) < math.ceil((1 - alpha) / alpha):
        return None
    actions = np.concatenate([chunk for rollout in fitted for chunk in rollout.chunks]).astype(np.float64)
    low, high = np.quantile(actions, [0.01, 0.99], axis=0)
    worst = [max(float(outside(chunk, low, high).max()) for chunk in rollout.chunks) for rollout in held_out]
    return ActionRange(low=tuple(low.tolist()), high=tuple(high.tolist()), excess=conformal_threshold(worst, alpha))


_HEADER = """\
# Thresholds fitted on successful rollouts. Unused until a person has looked at them: fill in reviewed_by and reviewed_on.
# `alpha` is the share of successful rollouts that would see at least one alarm.
"""


def thresholds_toml(thresholds: Thresholds) -> str:
    """The file to review: complete, and unsigned."""
    lines = [
        _HEADER,
        f"format = {FORMAT}",
        f"policy = {_text(thresholds.policy)}",
        f"robot_type = {_text(thresholds.robot_type)}",
    ]
    lines += ['reviewed_by = ""', 'reviewed_on = ""']
    for name in ("chunk_consistency", "token_entropy"):
        threshold: Threshold | None = getattr(thresholds, name)
        if threshold is not None:
            lines += ["", f"[{name}]", *_threshold_lines(threshold)]
    if thresholds.action_range is not None:
        found = thresholds.action_range
        lines += ["", "[action_range]", f"low = {list(found.low)}", f"high = {list(found.high)}", *_threshold_lines(found.excess)]
    return "\n".join(lines) + "\n"


def _threshold_lines(threshold: Threshold) -> list[str]:
    return [f"value = {threshold.value!r}", f"alpha = {threshold.alpha!r}", f"rollouts = {threshold.rollouts}"]


def _text(value: str) -> str:
    if not all(char.isalnum() or char in "._-:/@" for char in value):
        raise ThresholdsError(f"{value!r} is no plain name")
    return f'"{value}"'


def parse_thresholds(text: str) -> Thresholds:
    """The thresholds of a reviewed file. Raises ThresholdsError for one that is unsigned, damaged or of another format."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ThresholdsError(f"not TOML: {error}") from None
    if table.get("format") != FORMAT:
        raise ThresholdsError(f"format: {FORMAT} is needed")
    _check_signature(table)
    return Thresholds(
        policy=_name(table, "policy"),
        robot_type=_name(table, "robot_type"),
        chunk_consistency=_threshold(table, "chunk_consistency"),
        token_entropy=_threshold(table, "token_entropy"),
        action_range=_range(table),
    )


def _check_signature(table: dict[str, object]) -> None:
    if not isinstance(signed := table.get("reviewed_by"), str) or not signed.strip():
        raise ThresholdsError("reviewed_by: nobody has reviewed these thresholds")
    try:
        datetime.date.fromisoformat(str(table.get("reviewed_on")))
    except ValueError:
        raise ThresholdsError("reviewed_on: a date such as 2026-11-23 is needed") from None


def _name(table: dict[str, object], key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise ThresholdsError(f"{key}: a name is needed")
    return value


def _threshold(table: dict[str, object], key: str) -> Threshold | None:
    section = table.get(key)
    if section is None:
        return None
    if not isinstance(section, dict):
        raise ThresholdsError(f"{key}: a table is needed")
    value, alpha, rollouts = (_number(section.get(name), f"{key}.{name}") for name in ("value", "alpha", "rollouts"))
    if not (value >= 0 and 0 < alpha < 1 and rollouts >= 1):
        raise ThresholdsError(f"{key}: value ≥ 0, 0 < alpha < 1 and rollouts ≥ 1 are needed")
    return Threshold(value=value, alpha=alpha, rollouts=int(rollouts))


def _range(table: dict[str, object]) -> ActionRange | None:
    excess = _threshold(table, "action_range")
    section = table.get("action_range")
    if excess is None or not isinstance(section, dict):
        return None
    first, last = section.get("low"), section.get("high")
    if not isinstance(first, list) or not isinstance(last, list) or not first or len(first) != len(last):
        raise ThresholdsError("action_range: low and high need one number per column")
    low, high = (tuple(_number(number, "action_range") for number in end) for end in (first, last))
    if any(a > b for a, b in zip(low, high, strict=True)):
        raise ThresholdsError("action_range: low is above high")
    return ActionRange(low=low, high=high, excess=excess)


def _number(value: object, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ThresholdsError(f"{path}: {value!r} is not a finite number")
    return float(value)
