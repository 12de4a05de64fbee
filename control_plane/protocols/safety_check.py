"""`POST /v1/safety/check`: the door onto the dry run. JSON or msgpack in, the verdict out; a refusal is a 200 here, always."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.types import Receive, Scope, Send

from control_plane.errors import ApiError
from control_plane.inference.answer import Usage
from control_plane.inference.body import BodyLimits, read_body
from control_plane.inference.dry_run import Checked, CheckFields, DryRun
from control_plane.inference.fields import complaints
from control_plane.protocols.doorway import json_headers, trace_of
from control_plane.protocols.http_wire import data_policy_of
from safety.verdict import Decision
from safety.wire import fallback_json, outcome_json, verdict_json

PATH = "/v1/safety/check"
CHECKED, REFUSED = "checked", "refused"

BODY_BYTES_MAX = 2_000_000  # more than the longest chunk that is taken

_JSON: Callable[[bytes], CheckFields] = msgspec.json.Decoder(CheckFields).decode
_MSGPACK: Callable[[bytes], CheckFields] = msgspec.msgpack.Decoder(CheckFields).decode
_READERS = MappingProxyType(
    {
        "application/json": ("JSON", _JSON),
        "application/msgpack": ("msgpack", _MSGPACK),
        "application/x-msgpack": ("msgpack", _MSGPACK),
    }
)
_ENCODER = msgspec.json.Encoder()


class CheckedAction(msgspec.Struct, frozen=True, kw_only=True):
    """What would have been sent to the robot; empty when refused."""

    values: list[float]
    chunk: list[list[float]]
    horizon: int


class CheckAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a 200."""

    request_id: str
    model: str | None
    robot_type: str
    action: CheckedAction
    safety: Mapping[str, Any]
    modified: bool
    truncated_at: int | None
    expires_in_ms: float | None
    refused_for: str | None
    timings_ms: Mapping[str, float]
    usage: Usage
    fallback: Mapping[str, Any] | UnsetType = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyCheckDoor:
    """The endpoint, an ASGI application of its own."""

    dry_run: DryRun
    limits: BodyLimits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        trace = trace_of(scope)
        trace.route = PATH
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        limits = replace(self.limits, max_bytes=min(BODY_BYTES_MAX, self.limits.max_bytes))

        async def understand() -> CheckFields:
            content_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
            if content_type not in _READERS:
                raise ApiError("unsupported_media_type", "Send application/json or application/msgpack.")
            wire, decode = _READERS[content_type]
            body = await read_body(receive, headers, limits)
            with complaints(wire):
                return decode(body)

        key = headers.get(b"authorization")
        authorization = None if key is None else key.decode("latin-1")
        found = await self.dry_run.answer(trace, authorization, understand, data_policy=data_policy_of(headers))
        body = _ENCODER.encode(answer_of(found))
        extra = {"Server-Timing": trace.server_timing(), **found.admission.headers()}
        await send({"type": "http.response.start", "status": 200, "headers": json_headers(body, extra)})
        await send({"type": "http.response.body", "body": body})
        trace.outcome = REFUSED if found.verdict.decision is Decision.REJECT else CHECKED


def answer_of(found: Checked) -> CheckAnswer:
    """The wire form."""
    verdict, admission = found.verdict, found.admission
    chunk: list[list[float]] = verdict.actions.tolist()
    outcome = outcome_json(verdict)
    return CheckAnswer(
        request_id=found.trace.public_id,
        model=found.model,
        robot_type=found.robot_type,
        action=CheckedAction(values=chunk[0] if chunk else [], chunk=chunk, horizon=len(chunk)),
        safety=verdict_json(verdict),
        modified=outcome["modified"],
        truncated_at=outcome["truncated_at"],
        expires_in_ms=outcome["expires_in_ms"],
        refused_for=outcome["refused_for"],
        timings_ms={stage: round(spent_ms, 3) for stage, spent_ms in found.trace.stages_ms.items()},
        usage=Usage(
            requests_remaining_minute=admission.remaining_minute,
            requests_remaining_day=admission.remaining_day,
            requests_remaining_month=admission.remaining_month,
        ),
        fallback=UNSET if verdict.fallback is None else fallback_json(verdict.fallback),
    )
