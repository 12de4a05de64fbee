"""What comes back, as frozen values: an answer that is whole and finite, or an error. Numbers are read-only float32 arrays.

An answer without a motion never becomes one: `answer_from` raises Refused when the guard refused, and ServiceFault for anything
that is not exactly what a robot can execute (NaN, a ragged chunk, a decision this version does not know).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vlaapi_client.errors import Refused, ServiceFault
from vlaapi_client.rate_limit import RateLimit, rate_limit_from

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOVES = ("pass", "clamp", "truncate")


@dataclass(frozen=True, eq=False)
class Action:
    """The motion. `chunk` is (T, D), one row per 1 / control_hz seconds; `values` (D,) is its first row."""

    values: NDArray[np.float32]
    chunk: NDArray[np.float32]
    kind: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    frame: str
    horizon: int
    control_hz: float


@dataclass(frozen=True)
class Verdict:
    """What the action guard found. It is not a certified safety function. `rules` are as the service sends them."""

    decision: str
    overall_score: float
    limiting_rule: str | None
    score_is_upper_bound: bool
    evaluated: int
    applicable: int
    profile: str
    rules: tuple[Mapping[str, Any], ...] = field(repr=False)


@dataclass(frozen=True)
class Timings:
    """Milliseconds: what the service says per stage, and the whole round trip as seen from here, retries included."""

    stages_ms: Mapping[str, float]
    total_ms: float
    round_trip_ms: float

    @property
    def network_ms(self) -> float:
        """The round trip without the service's own part; send it as `network_rtt_ms` with the next request."""
        return max(0.0, self.round_trip_ms - self.total_ms)


@dataclass(frozen=True)
class Usage:
    """Requests left after this one; None is unlimited, or not known."""

    minute: int | None
    day: int | None
    month: int | None


@dataclass(frozen=True, eq=False)
class Answer:
    """One answered inference. `expires_in_ms`: until the last step is over; have a watchdog stop the robot then."""

    request_id: str
    model: str
    model_version: str
    robot_type: str
    session_id: str | None
    seq: int | None
    action: Action
    verdict: Verdict
    is_modified: bool
    truncated_at: int | None
    expires_in_ms: float | None
    refused_for: str | None
    fallback: Mapping[str, Any] | None
    timings: Timings
    usage: Usage
    rate_limit: RateLimit


@dataclass(frozen=True)
class Camera:
    """A picture that a model wants."""

    name: str
    is_required: bool
    width: int
    height: int
    resize: str


@dataclass(frozen=True)
class Model:
    """One model of `GET /v1/models`. `state_names` is None where it takes no state; `raw` is everything the service says."""

    id: str
    version: str
    status: str
    is_default: bool
    robots: tuple[str, ...]
    cameras: tuple[Camera, ...]
    state_names: tuple[str, ...] | None
    is_state_required: bool
    action_kind: str
    action_names: tuple[str, ...]
    horizon: int
    control_hz: float
    raw: Mapping[str, Any] = field(repr=False)


def answer_from(body: bytes, headers: Mapping[str, str], round_trip_ms: float) -> Answer:
    """The answer, its motion checked for shape and finiteness. Raises Refused, ServiceFault."""
    return answer_of(read_object(body, headers), headers, round_trip_ms)


def answer_of(told: Mapping[str, Any], headers: Mapping[str, str], round_trip_ms: float) -> Answer:
    """The same of what has been read already."""
    try:
        answer = _answer(told, headers, round_trip_ms)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _unreadable(headers, f"{type(error).__name__}: {error}") from None
    if answer.verdict.decision not in _MOVES:
        raise _refused(answer)
    return answer


def _refused(answer: Answer) -> Refused:
    rule, why = answer.verdict.limiting_rule, answer.refused_for or "motion"
    message = f"the action guard refused: {why}, {rule}" if rule else f"the action guard refused: {why}"
    refused = Refused("motion_refused", message, param=rule, request_id=answer.request_id)
    refused.answer, refused.fallback = answer, answer.fallback
    return refused


def is_refusal(body: bytes) -> bool:
    """Whether an error answer is a whole answer with a refused motion (accounts may ask for 422 then)."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(told, dict) and isinstance(told.get("safety"), dict) and "action" in told


def read_object(body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    """A JSON object without NaN and Infinity. Raises ServiceFault."""
    try:
        told = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise _unreadable(headers, "it is not JSON") from None
    if not isinstance(told, dict):
        raise _unreadable(headers, "it is not an object")
    return told


def models_from(body: bytes, headers: Mapping[str, str], _round_trip_ms: float) -> tuple[Model, ...]:
    """What each model wants and gives."""
    told = read_object(body, headers)
    try:
        return tuple(_model(one) for one in told["models"])
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(headers, f"{type(error).__name__}: {error}") from None


def object_from(body: bytes, headers: Mapping[str, str], _round_trip_ms: float) -> Mapping[str, Any]:
    """Whatever object the service sent."""
    return read_object(body, headers)


def _answer(told: Mapping[str, Any], headers: Mapping[str, str], round_trip_ms: float) -> Answer:
    verdict, usage, timings = _verdict(told["safety"]), told["usage"], told["timings_ms"]
    action = _action(told["action"], is_empty=verdict.decision not in _MOVES)
    return Answer(
        request_id=str(told["request_id"]),
        model=str(told["model"]),
        model_version=str(told["model_version"]),
        robot_type=str(told["robot_type"]),
        session_id=told.get("session_id"),
        seq=told.get("seq"),
        action=action,
        verdict=verdict,
        is_modified=bool(told["modified"]),
        truncated_at=told.get("truncated_at"),
        expires_in_ms=told.get("expires_in_ms"),
        refused_for=told.get("refused_for"),
        fallback=told.get("fallback"),
        timings=Timings(stages_ms=dict(timings), total_ms=float(timings["total"]), round_trip_ms=round_trip_ms),
        usage=Usage(
            minute=usage["requests_remaining_minute"],
            day=usage["requests_remaining_day"],
            month=usage["requests_remaining_month"],
        ),
        rate_limit=rate_limit_from(headers),
    )


def _action(told: Mapping[str, Any], *, is_empty: bool) -> Action:
    names, rows = tuple(map(str, told["names"])), told["chunk"]
    if is_empty and rows:
        raise ValueError("a refused motion has numbers")
    chunk = _numbers(rows, len(names)) if not is_empty else np.zeros((0, len(names)), np.float32)
    chunk.setflags(write=False)
    control_hz = float(told["control_hz"])
    if not 0 < control_hz < float("inf"):
        raise ValueError("control_hz is not a rate")
    return Action(
        values=chunk[0] if len(chunk) else np.zeros(0, np.float32),
        chunk=chunk,
        kind=str(told["kind"]),
        names=names,
        units=tuple(map(str, told["units"])),
        frame=str(told["frame"]),
        horizon=len(chunk),
        control_hz=control_hz,
    )


def _numbers(rows: Sequence[Sequence[Any]], width: int) -> NDArray[np.float32]:
    if not rows or any(len(row) != width for row in rows):
        raise ValueError(f"the chunk is not rows of {width} numbers")
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for row in rows for value in row):
        raise ValueError("the chunk has something that is not a number")
    chunk = np.array(rows, dtype=np.float32)
    if not np.isfinite(chunk).all():
        raise ValueError("the chunk is not finite")
    return chunk


def _verdict(told: Mapping[str, Any]) -> Verdict:
    return Verdict(
        decision=str(told["decision"]),
        overall_score=float(told["overall_score"]),
        limiting_rule=told["limiting_rule"],
        score_is_upper_bound=bool(told["score_is_upper_bound"]),
        evaluated=int(told["coverage"]["evaluated"]),
        applicable=int(told["coverage"]["applicable"]),
        profile=str(told["profile"]),
        rules=tuple(told["rules"]),
    )


def _model(told: Mapping[str, Any]) -> Model:
    action, state = told["action"], told["state"]
    return Model(
        id=told["id"],
        version=told["version"],
        status=told["status"],
        is_default=told["is_default"],
        robots=tuple(told["robots"]),
        cameras=tuple(
            Camera(name=c["name"], is_required=c["is_required"], width=c["width"], height=c["height"], resize=c["resize"])
            for c in told["cameras"]
        ),
        state_names=None if state is None else tuple(state["names"]),
        is_state_required=state is not None and state["is_required"],
        action_kind=action["kind"],
        action_names=tuple(action["names"]),
        horizon=action["horizon"],
        control_hz=action["control_hz"],
        raw=told,
    )


def _unreadable(headers: Mapping[str, str], why: str) -> ServiceFault:
    return ServiceFault("unreadable_answer", f"the answer cannot be used: {why}", request_id=headers.get("x-request-id"))


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
