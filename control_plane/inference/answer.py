"""Step 10: the answer as a value, and as the JSON of the REST door. Field by field it is docs/API.md.

Other doors render the same value in their own wire format. Knows no HTTP.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from control_plane.inference.observation import Observation
from control_plane.inference.seams import Admission
from control_plane.inference.trace import Trace
from safety.verdict import Decision, Verdict
from safety.wire import fallback_json, outcome_json, verdict_json

_ENCODER = msgspec.json.Encoder()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the pipeline gives to a door."""

    trace: Trace
    observation: Observation
    verdict: Verdict
    admission: Admission
    is_rejection_an_error: bool = False
    is_test: bool = False

    @property
    def is_refused(self) -> bool:
        """True when the guard let no motion through."""
        return self.verdict.decision is Decision.REJECT


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """The motion. `values` is the first step of `chunk`; both are empty when the guard refused. `horizon` counts its steps."""

    values: list[float]
    chunk: list[list[float]]
    kind: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    frame: str
    horizon: int
    control_hz: float


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of the limits after this request; null is unlimited."""

    requests_remaining_minute: int | None
    requests_remaining_day: int | None
    requests_remaining_month: int | None


class InferenceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a 200. `expires_in_ms`: until the last step is over; null when refused. `refused_for`: null unless refused.

    `is_test`: true when a test key asked, else left out.
    """

    request_id: str
    model: str
    model_version: str
    robot_type: str
    session_id: str | None
    seq: int | None
    action: Action
    safety: Mapping[str, Any]
    modified: bool
    truncated_at: int | None
    expires_in_ms: float | None
    refused_for: str | None
    timings_ms: Mapping[str, float]
    usage: Usage
    is_test: bool | UnsetType = UNSET
    fallback: Mapping[str, Any] | UnsetType = UNSET
    error: Mapping[str, Any] | UnsetType = UNSET


def usage_of(admission: Admission) -> Usage:
    """What is left."""
    return Usage(
        requests_remaining_minute=admission.remaining_minute,
        requests_remaining_day=admission.remaining_day,
        requests_remaining_month=admission.remaining_month,
    )


def body_of(answer: Answer, *, error: Mapping[str, Any] | None = None) -> bytes:
    """The JSON bytes. `error` is added for a customer who wants a refused motion to be an error."""
    return _ENCODER.encode(wire_of(answer, error=error))


def wire_of(answer: Answer, *, error: Mapping[str, Any] | None = None) -> InferenceAnswer:
    """The answer of our own doors, not yet written."""
    trace, observation, verdict, admission = answer.trace, answer.observation, answer.verdict, answer.admission
    manifest = observation.policy.manifest
    chunk: list[list[float]] = verdict.actions.tolist()
    outcome = outcome_json(verdict)
    return InferenceAnswer(
        request_id=trace.public_id,
        model=manifest.policy,
        model_version=str(manifest.version),
        robot_type=observation.robot_type,
        session_id=observation.session_id,
        seq=observation.seq,
        action=Action(
            values=chunk[0] if chunk else [],
            chunk=chunk,
            kind=manifest.action.kind.value,
            names=manifest.action.names,
            units=manifest.action.units,
            frame=manifest.action.frame,
            horizon=len(chunk),
            control_hz=manifest.action.control_hz,
        ),
        safety=verdict_json(verdict),
        modified=outcome["modified"],
        truncated_at=outcome["truncated_at"],
        expires_in_ms=outcome["expires_in_ms"],
        refused_for=outcome["refused_for"],
        timings_ms={stage: round(spent_ms, 3) for stage, spent_ms in trace.stages_ms.items()},
        usage=usage_of(admission),
        is_test=True if answer.is_test else UNSET,
        fallback=UNSET if verdict.fallback is None else fallback_json(verdict.fallback),
        error=UNSET if error is None else error,
    )
