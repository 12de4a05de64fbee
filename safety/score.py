"""From a measured value and its limit to a status and a sub-score (safety catalogue §3.2), and how both are rounded for people.

1 up to the warn point, 0.5 exactly at the limit, 0 where a chunk is refused instead of scaled. Knows no rule.
"""

import math

from safety.verdict import RuleStatus

WARN_POINT = 0.8
REJECT_POINT = 5.0
BELOW_HALF = math.nextafter(0.5, 0.0)  # the best score of a broken limit


def ramp(utilisation: float, reject_point: float = REJECT_POINT) -> float:
    """Never rises with utilisation. With `reject_point` 1 (a limit that cannot be clamped) it falls from 0.5 to 0."""
    if utilisation <= WARN_POINT:
        return 1.0
    if utilisation <= 1.0:
        return 1.0 - 0.5 * (utilisation - WARN_POINT) / (1.0 - WARN_POINT)
    if utilisation < reject_point:
        return 0.5 * (reject_point - utilisation) / (reject_point - 1.0)
    return 0.0


def judge(value: float, limit: float) -> tuple[RuleStatus, float]:
    """Status and score of a limit whose excess can be scaled away. The values decide, so rounding in the ratio never does."""
    score = ramp(value / limit)
    if value <= limit:
        return (RuleStatus.PASSED if score == 1.0 else RuleStatus.WARNED), score
    if score == 0.0:
        return RuleStatus.REJECTED, 0.0
    return RuleStatus.CLAMPED, min(score, BELOW_HALF)


def rounded_score(score: float) -> float:
    """Four significant digits, rounded down: never flatters, and keeps 0, 0.5 and 1 where they are."""
    if score in (0.0, 1.0):
        return score
    digits = 3 - math.floor(math.log10(score))
    rounded = round(score, digits)
    return rounded if rounded <= score else round(rounded - 10.0**-digits, digits)


def rounded_value(value: float, limit: float | None) -> float:
    """Four significant digits, or as many as it takes to stay on the same side of the limit."""
    for digits in (4, 6, 9, 12):
        rounded = float(f"{value:.{digits}g}")
        if limit is None or _side(rounded, limit) == _side(value, limit):
            return rounded
    return value


def _side(value: float, limit: float) -> int:
    return (value > limit) - (value < limit)
