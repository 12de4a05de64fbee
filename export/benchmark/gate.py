"""Is this run worse than a baseline by more than a tolerance? One line per figure that is.

Ratios are always compared, absolute numbers only where both runs are from the same kind of machine. Closed-loop success has no
tolerance: it may not fall below what the baseline's own episodes are 95 % sure of. A figure that the baseline has and this run
lacks is broken, too. What is no comparison at all is refused by `baseline`.
"""

import math
from dataclasses import dataclass

from export.benchmark.baseline import SUCCESS, Baseline, BaselineEpisodes, BaselineFigure
from export.benchmark.failure import BadRange, BaselineUnusable
from export.benchmark.result import Figure, Result
from export.interval import wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`broken` is empty when nothing got worse. `skipped`: absolute numbers of another machine; `unstable` ones were judged."""

    compared: int
    broken: tuple[str, ...]
    skipped: tuple[str, ...]
    unstable: tuple[str, ...] = ()


def parse_tolerance(text: str) -> float:
    """`15%` or `0.15` → 0.15. Raises BadRange."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 <= share < 1:
        raise BadRange(f"tolerance {text!r}: write a share such as 15% or 0.15, below 100%")
    return share


def judge(result: Result, baseline: Baseline, tolerance: float) -> Verdict:
    """Compares every figure of the baseline. Raises BaselineUnusable for one of another policy, load or setting."""
    found = {figure.name: figure for figure in result.figures()}
    wanted = baseline.comparable(result.conditions)
    for one in wanted:
        if one.name in found and found[one.name].is_higher_better != one.is_higher_better:
            raise BaselineUnusable(f"{one.name}: the baseline says that {'more' if one.is_higher_better else 'less'} is better")
    reasons = [
        _success_reason(baseline.episodes, found.get(one.name))
        if one.name == SUCCESS and baseline.episodes is not None
        else _reason(one, found.get(one.name), tolerance if one.tolerance is None else one.tolerance)
        for one in wanted
    ]
    return Verdict(
        compared=len(wanted),
        broken=tuple(reason for reason in reasons if reason is not None),
        skipped=tuple(one.name for one in baseline.figures if one not in wanted),
        unstable=tuple(one.name for one in wanted if one.name in found and not (one.is_stable and found[one.name].is_stable)),
    )


def _success_reason(before: BaselineEpisodes, found: Figure | None) -> str | None:
    """The same for closed-loop success, which is a count: luck is told from loss by the interval of what was counted."""
    if found is None:
        return f"{SUCCESS}: not measured in this run, the baseline has {before.succeeded} of {before.episodes}"
    low, _ = wilson(before.succeeded, before.episodes)
    if found.value >= low:
        return None
    counted = f"{before.succeeded} of {before.episodes}"
    return f"{SUCCESS}: {found.value:.4g}, at least {low:.4g} is allowed (95 % of the baseline's {counted})"


def _reason(baseline: BaselineFigure, found: Figure | None, tolerance: float) -> str | None:
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
