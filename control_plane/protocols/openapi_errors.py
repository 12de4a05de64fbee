"""What every operation of the OpenAPI description says about errors and headers, generated from the error table."""

from collections.abc import Iterable
from typing import Any

from control_plane.errors import ERRORS, ErrorKind, RobotAction
from control_plane.identity.data_policy import HEADER, DataPolicy
from control_plane.protocols.idempotent import MOTION_PATHS
from control_plane.protocols.openapi_examples import ERROR

Json = dict[str, Any]

REF = "#/components/schemas/"
BILLING_CODES = ("invoice_state", "billing_period", "price_version_changed")
NOT_FROM_INFERENCE = frozenset(
    {
        "not_found",
        "method_not_allowed",
        "robot_not_found",
        "settings_changed",
        "key_restricted",
        "outcome_unknown",
        "operator_role",
    }
    | {"superseded"}  # said on WebSockets only
    | set(BILLING_CODES)
)
KEY_CODES = (
    *(kind.code for kind in ERRORS.values() if kind.type == "authentication" and kind.code != "operator_role"),
    *("store_unavailable", "internal_error"),
)


IDEMPOTENCY_CODES = (
    *("invalid_idempotency_key", "idempotency_key_reused", "request_in_progress", "answer_gone", "outcome_unknown"),
    "idempotency_unavailable",
)


def header(description: str) -> Json:
    """A response header."""
    return {"description": description, "schema": {"type": "string"}}


COMMON_HEADERS = {"X-Request-Id": header("The id of this request, also in every log and on the invoice's record")}
LIMIT_HEADERS = {
    "RateLimit-Policy": header("The limits that apply"),
    "RateLimit": header("What is left of them"),
}


def with_idempotency(paths: dict[str, Json]) -> dict[str, Json]:
    """The operations with the headers that every POST, or every one about a motion, takes; what marks an answer given again."""
    for path, operation in ((path, methods["post"]) for path, methods in paths.items() if "post" in methods):
        own = [_IDEMPOTENCY_KEY, _DATA_POLICY] if path in MOTION_PATHS else [_IDEMPOTENCY_KEY]
        operation["parameters"] = [*operation.get("parameters", ()), *own]
        for status, response in operation["responses"].items():
            if status.startswith("2"):
                response["headers"] = {**response.get("headers", {}), "Idempotent-Replayed": header("`true` when given again")}
    return paths


_IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 257},
    "description": "Your name for this request. Sent again with the same body, it gets the first answer and is billed once.",
}


_DATA_POLICY: Json = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "enum": [policy.value for policy in DataPolicy]},
    "description": "Keep less of this request than your data policy allows; it can never ask for more.",
}


def errors(codes: Iterable[str]) -> dict[str, Json]:
    """One response per status, naming every code it can carry."""
    by_status: dict[int, list[ErrorKind]] = {}
    for code in codes:
        by_status.setdefault(ERRORS[code].status, []).append(ERRORS[code])
    return {str(status): _error_response(kinds) for status, kinds in sorted(by_status.items())}


def _error_response(kinds: list[ErrorKind]) -> Json:
    can_wait = any(kind.is_retryable for kind in kinds)
    headers = {**COMMON_HEADERS, **({"Retry-After": header("Seconds to wait, when known")} if can_wait else {})}
    return {
        "description": "\n".join(f"- `{kind.code}`: {kind.message}" for kind in kinds),
        "headers": headers,
        "content": {
            "application/json": {
                "schema": {"$ref": REF + "Error"},
                "examples": {kind.code: {"value": _error_example(kind)} for kind in kinds},
            }
        },
    }


def _error_example(kind: ErrorKind) -> Json:
    told = {
        "type": kind.type,
        "code": kind.code,
        "message": kind.message,
        "is_retryable": kind.is_retryable,
        "robot_action": kind.robot_action.value,
        "doc_url": f"{ERROR['error']['doc_url'].partition('#')[0]}#{kind.code}",
    }
    return {"error": {**ERROR["error"], **told}}


def error_schema() -> Json:
    """The one shape of every error."""
    properties: dict[str, Json] = {
        "type": {"enum": sorted({kind.type for kind in ERRORS.values()})},
        "code": {"enum": list(ERRORS)},
        "message": {"type": "string"},
        "param": {"type": ["string", "null"], "description": "The field at fault, e.g. `images.wrist` or `state[3]`."},
        "request_id": {"type": "string"},
        "doc_url": {"type": "string", "format": "uri"},
        "is_retryable": {"type": "boolean"},
        "retry_after_ms": {"type": ["integer", "null"]},
        "robot_action": {"enum": [action.value for action in RobotAction], "description": "What a control loop should do."},
    }
    required = list(properties)
    properties["late_by_ms"] = {
        "type": "integer",
        "minimum": 0,
        "description": "Of `deadline_exceeded`: by how much it was late.",
    }
    error = {"type": "object", "properties": properties, "required": required}
    return {"type": "object", "properties": {"error": error}, "required": ["error"]}
