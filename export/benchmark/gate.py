"""Is this run worse than a baseline by more than a tolerance? One line per figure that is.

A baseline is any JSON that a benchmark wrote; a figure in it may carry its own tolerance. Ratios are always compared, absolute
numbers only where both runs are from the same kind of machine. A figure that the baseline has and this run lacks is broken, too.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export.benchmark.failure import BadRange, BaselineUnusable
from export.benchmark.result import SCHEMA_VERSION, Figure, Machine, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`broken` is empty when nothing got worse. `skipped` are absolute numbers of another machine."""

    compared: int
    broken: tuple[str, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What is compared with."""

    policy: str
    machine: Machine
    figures: tuple[Figure, ...]


def parse_tolerance(text: str) -> float:
    """`15%` or `0.15` → 0.15. Raises BadRange."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 <= share < 1:
        raise BadRange(f"tolerance {text!r}: write a share such as 15% or 0.15, below 100%")
    return share


def load_baseline(path: Path) -> Baseline:
    """Raises BaselineUnusable."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        if found["schema_version"] != SCHEMA_VERSION:
            raise BaselineUnusable(f"{path}: schema_version is {found['schema_version']}, not {SCHEMA_VERSION}; record it again")
        figures = tuple(Figure(**one) for one in found["figures"])
        return Baseline(policy=found["policy"], machine=Machine(**found["machine"]), figures=figures)
    except OSError as error:
        raise BaselineUnusable(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BaselineUnusable(f"{path}: no benchmark's JSON ({type(error).__name__}: {error})") from None


def baseline_json(result: Result, tolerances: dict[str, float]) -> str:
    """A baseline that holds on any machine: the ratios of a run, each with a tolerance of its own where `tolerances` has one."""
    figures = [{**asdict(one), "tolerance": tolerances.get(one.name)} for one in result.figures() if one.is_portable]
    whole = {
        "schema_version": SCHEMA_VERSION,
        "policy": result.policy,
        "measured_at": result.measured_at,
        "machine": asdict(result.machine),
        "settings": result.settings,
        "figures": [{**figure, "value": float(f"{figure['value']:.4g}")} for figure in figures],
    }
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def judge(result: Result, baseline: Baseline, tolerance: float) -> Verdict:
    """Compares every figure of the baseline. Raises BaselineUnusable for another policy's."""
    if baseline.policy != result.policy:
        raise BaselineUnusable(f"the baseline is of {baseline.policy}, this is {result.policy}")
    found = {figure.name: figure for figure in result.figures()}
    is_same = baseline.machine == result.machine
    wanted = [one for one in baseline.figures if one.is_portable or is_same]
    reasons = [_reason(one, found.get(one.name), tolerance if one.tolerance is None else one.tolerance) for one in wanted]
    return Verdict(
        compared=len(wanted),
        broken=tuple(reason for reason in reasons if reason is not None),
        skipped=tuple(one.name for one in baseline.figures if one not in wanted),
    )


def _reason(baseline: Figure, found: Figure | None, tolerance: float) -> str | None:
    """Why the figure is worse than it may be, or None."""
    if found is None:
        return f"{baseline.name}: not measured in this run, the baseline has {baseline.value:.4g}"
    limit = baseline.value * (1 - tolerance if baseline.is_higher_better else 1 + tolerance)
    is_worse = found.value < limit if baseline.is_higher_better else found.value > limit
    if not is_worse:
        return None
    bound = "at least" if baseline.is_higher_better else "at most"
    allowed = f"{bound} {limit:.4g} is allowed (baseline {baseline.value:.4g}, tolerance {tolerance:.0%})"
    return f"{baseline.name}: {found.value:.4g}, {allowed}"
