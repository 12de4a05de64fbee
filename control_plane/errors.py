"""Every way a request can fail, as the caller sees it: one table, one shape, nothing internal.

    ApiError                    raised anywhere under a door; carries a row of ERRORS and what to name
      by what the caller can do: fix the request (400, 404, 409, 413, 415, 422) · fix the key (401, 403)
      · wait (429) · try again (503, 504) · tell us (500, 502)

Foreign exceptions are translated where they are caught; what is not mapped becomes `internal_error` with the request id only.
Knows HTTP statuses but no framework.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any


class RobotAction(StrEnum):
    """What a control loop should do when it gets this error instead of an action."""

    HOLD = "hold"
    CONTINUE = "continue"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorKind:
    """One row of the error table: what the code means and what to do about it."""

    code: str
    type: str
    status: int
    message: str
    is_retryable: bool
    robot_action: RobotAction


def _row(code: str, type_: str, status: int, message: str, *, retry: bool = False, stop: bool = False) -> ErrorKind:
    action = RobotAction.STOP if stop else RobotAction.CONTINUE if code in _CARRY_ON else RobotAction.HOLD
    return ErrorKind(code=code, type=type_, status=status, message=message, is_retryable=retry, robot_action=action)


_CARRY_ON = frozenset({"superseded"})  # the answer to a newer observation is on its way
_INVALID, _AUTH, _LIMIT, _UNAVAILABLE = "invalid_request", "authentication", "rate_limit", "unavailable"
_SCOPE = "permission"

_ROWS = (
    # Fix the request.
    _row("invalid_body", _INVALID, 400, "The body is not valid for its content type."),
    _row("body_timeout", _INVALID, 408, "The body did not arrive in time.", retry=True),
    _row("not_found", _INVALID, 404, "There is nothing at this address."),
    _row("method_not_allowed", _INVALID, 405, "This address does not take that method."),
    _row("body_too_large", _INVALID, 413, "The body is larger than this service takes."),
    _row("unsupported_media_type", _INVALID, 415, "Send application/json, multipart/form-data or application/msgpack."),
    _row("invalid_field", _INVALID, 422, "A field has a value that is not allowed."),
    _row("missing_field", _INVALID, 422, "A required field is missing."),
    _row("unknown_field", _INVALID, 422, "A field is not known."),
    _row("invalid_image", _INVALID, 422, "The image cannot be used."),
    _row("invalid_instruction", _INVALID, 422, "The instruction cannot be used."),
    _row("invalid_state", _INVALID, 422, "The robot state cannot be used."),
    _row("unknown_model", _INVALID, 404, "There is no such model."),
    _row("unknown_robot", _INVALID, 422, "There is no safety profile for this robot, or the model does not fit it.", stop=True),
    _row("robot_not_found", _INVALID, 404, "There is no safety profile for this robot."),
    _row("invalid_safety", _INVALID, 422, "The safety limits cannot be used: a layer may only tighten what is above it."),
    _row("sequence_replayed", _INVALID, 409, "This session has had this seq, or a later one, already."),
    _row("superseded", _INVALID, 409, "A newer observation took its place before it was begun."),
    _row("instruction_refused", _INVALID, 422, "The instruction policy of this account refuses this instruction."),
    _row("motion_refused", _INVALID, 422, "The action guard refused the motion; this account asked for an error then."),
    _row("settings_changed", _INVALID, 409, "The settings have changed since that version."),
    _row("invoice_state", _INVALID, 409, "The invoice is not in a state for that."),
    _row("billing_period", _INVALID, 409, "That month cannot be billed or changed now."),
    _row("price_version_changed", _INVALID, 409, "A version of the price list that was in force has other prices now."),
    _row("invalid_idempotency_key", _INVALID, 400, "The Idempotency-Key must be 1 to 255 visible ASCII characters."),
    _row("idempotency_key_reused", _INVALID, 409, "Another request was sent with this Idempotency-Key."),
    _row("request_in_progress", _INVALID, 409, "The first request with this Idempotency-Key is not answered yet.", retry=True),
    _row("answer_gone", _INVALID, 409, "The first request with this Idempotency-Key was answered; that answer is gone."),
    _row("outcome_unknown", _INVALID, 409, "What became of the first request with this Idempotency-Key is not known."),
    _row(
        "feedback_not_kept", _INVALID, 409, "Nothing is kept of your requests, so there is nothing that feedback could belong to."
    ),
    _row("unknown_camera", _INVALID, 422, "The model has no such camera."),
    _row("unknown_unnorm_key", _INVALID, 422, "The model has no such action statistics."),
    # Fix the key.
    _row("missing_key", _AUTH, 401, "Send your API key as 'Authorization: Bearer vla_live_…'.", stop=True),
    _row("malformed_key", _AUTH, 401, "That is not an API key of this service; check for a typing mistake.", stop=True),
    _row("unknown_key", _AUTH, 401, "This API key does not exist.", stop=True),
    _row("revoked_key", _AUTH, 401, "This API key was revoked.", stop=True),
    _row("expired_key", _AUTH, 401, "This API key has expired.", stop=True),
    _row("inactive_customer", _AUTH, 403, "This account is not active.", stop=True),
    _row("operator_role", _AUTH, 403, "This operator key's role does not allow that.", stop=True),
    _row("address_not_allowed", _AUTH, 403, "This API key may not be used from this address.", stop=True),
    _row("robot_out_of_scope", _SCOPE, 403, "This API key is not for this robot.", stop=True),
    _row("policy_out_of_scope", _SCOPE, 403, "This API key is not for this model.", stop=True),
    _row("key_restricted", _SCOPE, 403, "This takes a live API key that is restricted to no robot and no model.", stop=True),
    # Wait.
    _row("minute_limit", _LIMIT, 429, "The per-minute limit is used up.", retry=True),
    _row("day_limit", _LIMIT, 429, "The per-day limit is used up."),
    _row("month_limit", _LIMIT, 429, "The per-month limit is used up."),
    _row("spend_limit", _LIMIT, 429, "This account's spend cap for the month is reached.", stop=True),
    _row("concurrency_limit", _LIMIT, 429, "Too many requests are in flight.", retry=True),
    # Try again.
    _row("overloaded", _UNAVAILABLE, 503, "The service is shedding load; try again.", retry=True),
    _row("policy_unavailable", _UNAVAILABLE, 503, "The model cannot be reached at present.", retry=True),
    _row("store_unavailable", _UNAVAILABLE, 503, "This key cannot be verified at present.", retry=True),
    _row("spend_unknown", _UNAVAILABLE, 503, "What this account has spent cannot be said at present.", retry=True),
    _row("idempotency_unavailable", _UNAVAILABLE, 503, "At most once cannot be promised at present.", retry=True),
    _row("journal_unavailable", _UNAVAILABLE, 503, "The answer could not be recorded, so it was not given.", retry=True),
    _row("guard_unavailable", _UNAVAILABLE, 503, "The safety check could not be completed, so no action is given.", retry=True),
    _row("deadline_exceeded", "timeout", 504, "The answer would have come too late.", retry=True),
    # Tell us.
    _row("policy_failed", "internal", 502, "The model failed on this input."),
    _row("internal_error", "internal", 500, "Something went wrong on our side."),
)

ERRORS: Mapping[str, ErrorKind] = MappingProxyType({row.code: row for row in _ROWS})


class ApiError(Exception):
    """A failure with a row in ERRORS. `message` must hold nothing internal; `param` names the field at fault."""

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        param: str | None = None,
        retry_after_ms: int | None = None,
        late_by_ms: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = ERRORS[code]
        self.message = message or self.kind.message
        self.param = param
        self.retry_after_ms = retry_after_ms
        self.late_by_ms = late_by_ms
        self.headers = dict(headers or {})
        super().__init__(f"{code}: {self.message}")


def error_body(error: ApiError, *, request_id: str, errors_url: str) -> dict[str, Any]:
    """The wire form (docs/ERRORS.md). `errors_url` is the page that explains every code."""
    kind = error.kind
    late = {} if error.late_by_ms is None else {"late_by_ms": error.late_by_ms}
    return {
        "error": {
            "type": kind.type,
            "code": kind.code,
            "message": error.message,
            "param": error.param,
            "request_id": request_id,
            "doc_url": f"{errors_url}#{kind.code}",
            "is_retryable": kind.is_retryable,
            "retry_after_ms": error.retry_after_ms,
            "robot_action": kind.robot_action.value,
            **late,
        }
    }


def error_headers(error: ApiError) -> dict[str, str]:
    """The error's own headers, and `Retry-After` in whole seconds, rounded up, when it is known when to come back."""
    if error.retry_after_ms is None:
        return error.headers
    return {"Retry-After": str(math.ceil(error.retry_after_ms / 1000)), **error.headers}
