"""A verdict as the JSON that customers read (safety catalogue §3.6). Plain dicts of finite numbers; the actions are the caller's.

Rounding never flatters: scores go down to four significant digits, and a value stays on its side of its limit.
"""

import math
from typing import Any

from safety.score import rounded_score, rounded_value
from safety.verdict import Fallback, RuleResult, Verdict


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """The `safety` object of an answer. Its rows are shared with other answers: nobody may change them."""
    return {
        "decision": str(verdict.decision),
        "overall_score": rounded_score(verdict.overall_score),
        "limiting_rule": verdict.limiting_rule,
        "score_is_upper_bound": verdict.score_is_upper_bound,
        "coverage": {"evaluated": verdict.coverage.evaluated, "applicable": verdict.coverage.applicable},
        "rules": [result.row or _written(result) for result in verdict.rules],
        "profile": verdict.profile,
        "guard_version": verdict.guard_version,
        "certified": False,
    }


def outcome_json(verdict: Verdict) -> dict[str, Any]:
    """What stands beside the `safety` object: whether and where the chunk was changed, until when it is good, who is at fault."""
    expires = verdict.expires_in_ms
    return {
        "modified": verdict.is_modified,
        "truncated_at": verdict.truncated_at,
        "expires_in_ms": None if expires is None else math.floor(expires * 10) / 10,
        "refused_for": None if verdict.refused_for is None else str(verdict.refused_for),
        "refused_field": verdict.refused_field,
    }


def fallback_json(fallback: Fallback) -> dict[str, Any]:
    """The `fallback` object of a refused answer."""
    values = None if fallback.values is None else list(fallback.values)
    return {"type": fallback.type, "values": values, "is_safe_state": fallback.is_safe_state}


def _written(result: RuleResult) -> dict[str, Any]:
    """The row, worked out once. Two threads may do so at the same moment, and get the same."""
    row = _rule_json(result)
    object.__setattr__(result, "row", row)
    return row


def _rule_json(result: RuleResult) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": result.id,
        "status": str(result.status),
        "score": None if result.score is None else rounded_score(result.score),
    }
    if result.reason is not None:
        row["reason"] = str(result.reason)
    if result.value is not None:
        row["value"] = rounded_value(result.value, result.limit)
    if result.limit is not None:
        row["limit"] = result.limit
    if result.unit is not None:
        row["unit"] = result.unit
    if result.at is not None:
        row["at"] = list(result.at)
    if result.message is not None:
        row["message"] = result.message
    return row
