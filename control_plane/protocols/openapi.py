"""The OpenAPI description, written by hand where words matter and generated where the code already says it.

Answer schemas come from the msgspec types that are really sent, errors from the table. `tests/golden/openapi.json` shows every
change to a reviewer (`make golden` rewrites it: `python -m control_plane.protocols.openapi`). Knows no running service.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from control_plane.errors import ERRORS, ErrorKind, RobotAction
from control_plane.inference.answer import InferenceAnswer
from control_plane.policies.routes import Models
from control_plane.protocols.openapi_examples import ANSWER, ERROR, MODELS, READY, REFUSAL, REQUEST, REQUEST_FULL
from control_plane.protocols.operations import ReadyReport
from safety.verdict import Decision, NotEvaluated, RuleStatus

Json = dict[str, Any]

_REF = "#/components/schemas/"
_NOT_HERE = frozenset({"not_found", "method_not_allowed"})
_KEY_CODES = (*(kind.code for kind in ERRORS.values() if kind.type == "authentication"), "store_unavailable", "internal_error")

# The fields of a request besides the pictures; a test holds the names against the decoder's.
FIELDS: Mapping[str, Json] = {
    "instruction": {"type": "string", "description": "What to do, in words. At most the model's `max_chars`.", "minLength": 1},
    "model": {"type": "string", "maxLength": 128, "description": "A model of `GET /v1/models`; its default one if absent."},
    "robot_type": {"type": "string", "maxLength": 128, "description": "The robot that will move; picks the safety profile."},
    "state": {
        "type": "array",
        "items": {"type": "number"},
        "description": "The robot's state, in the model's order and units. Never invented: absent stays absent.",
    },
    "unnorm_key": {
        "type": "string",
        "maxLength": 128,
        "description": "Which action statistics to use, where a model has several.",
    },
    "deadline_ms": {
        "type": "integer",
        "minimum": 1,
        "maximum": 600_000,
        "description": "Milliseconds from the first byte after which the answer is worthless; late work is dropped (504).",
    },
    "session_id": {"type": "string", "maxLength": 128, "description": "Your episode; kept with the log row and echoed."},
    "seq": {"type": "integer", "minimum": 0, "description": "Your count of observations; echoed."},
    "obs_age_ms": {"type": "number", "minimum": 0, "description": "Age of the observation when it was sent."},
}
_PICTURE = "An encoded JPEG, PNG or WebP of the model's first camera"
_TEXT_PICTURE = {"type": "string", "description": f"{_PICTURE}, as base64 or a `data:` URL."}
_BINARY_PICTURE = {"type": "string", "format": "binary", "description": f"{_PICTURE}."}


def document() -> Json:
    """The whole description."""
    _, generated = msgspec.json.schema_components((InferenceAnswer, Models, ReadyReport), ref_template=_REF + "{name}")
    generated["InferenceAnswer"]["properties"]["safety"] = {"$ref": _REF + "Safety"}
    generated["InferenceAnswer"]["properties"]["fallback"] = {"$ref": _REF + "Fallback"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vlaapi",
            "version": "1",
            "description": "Images and an instruction in; a checked robot motion out. docs/API.md has the whole story.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/v1/inference": {"post": _inference()},
            "/v1/models": {"get": _models()},
            "/health": {"get": _plain("health", "Whether this process is alive", {"status": "alive"})},
            "/ready": {"get": _ready()},
            "/metrics": {"get": _text("metrics", "Prometheus metrics", "text/plain")},
            "/errors": {"get": _text("errors", "The error table as a page", "text/html")},
        },
        "components": {
            "schemas": dict(sorted({**generated, **_requests(), **_safety(), "Error": _error_schema()}.items())),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`Bearer vla_live_…`; `Api-Key vla_live_…` also works.",
                }
            },
        },
    }


def _inference() -> Json:
    examples = {"minimal": {"value": REQUEST}, "everything": {"value": REQUEST_FULL}}
    return {
        "operationId": "infer",
        "summary": "The next motion for what the cameras see",
        "security": [{"key": []}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": _REF + "InferenceRequest"}, "examples": examples},
                "multipart/form-data": {"schema": {"$ref": _REF + "InferenceForm"}},
                "application/msgpack": {"schema": {"$ref": _REF + "InferenceBinaryRequest"}},
            },
        },
        "responses": {
            "200": {
                "description": "A motion, or a refusal by the safety guard: then `values` and `chunk` are empty.",
                "headers": {"Server-Timing": _header("Milliseconds per stage"), **_COMMON_HEADERS, **_LIMIT_HEADERS},
                "content": {
                    "application/json": {
                        "schema": {"$ref": _REF + "InferenceAnswer"},
                        "examples": {"motion": {"value": ANSWER}, "refused by the guard": {"value": REFUSAL}},
                    }
                },
            },
            **_errors(kind.code for kind in ERRORS.values() if kind.code not in _NOT_HERE),
        },
    }


def _models() -> Json:
    answer = {"schema": {"$ref": _REF + "Models"}, "example": MODELS}
    return {
        "operationId": "list_models",
        "summary": "What each model wants and gives",
        "security": [{"key": []}],
        "responses": {
            "200": {"description": "The models", "headers": _COMMON_HEADERS, "content": {"application/json": answer}},
            **_errors(_KEY_CODES),
        },
    }


def _ready() -> Json:
    content = {"application/json": {"schema": {"$ref": _REF + "ReadyReport"}, "example": READY}}
    return {
        "operationId": "ready",
        "summary": "Whether traffic should come here",
        "responses": {
            "200": {"description": "Ready, or degraded: a store is away, answers still come.", "content": content},
            "503": {"description": "No model answers.", "content": content},
        },
    }


def _plain(name: str, summary: str, example: Json) -> Json:
    content = {"application/json": {"schema": {"type": "object"}, "example": example}}
    return {"operationId": name, "summary": summary, "responses": {"200": {"description": summary, "content": content}}}


def _text(name: str, summary: str, media_type: str) -> Json:
    content = {media_type: {"schema": {"type": "string"}}}
    return {"operationId": name, "summary": summary, "responses": {"200": {"description": summary, "content": content}}}


def _requests() -> dict[str, Json]:
    return {
        "InferenceRequest": _request(_TEXT_PICTURE, _by_camera(_TEXT_PICTURE)),
        "InferenceBinaryRequest": _request(_BINARY_PICTURE, _by_camera(_BINARY_PICTURE)),
        "InferenceForm": {
            "type": "object",
            "description": "Pictures as parts `image`, `images.<camera>`; any other field as text, or all of them in `request`.",
            "properties": {
                "image": _BINARY_PICTURE,
                **FIELDS,
                "request": {
                    "type": "string",
                    "contentMediaType": "application/json",
                    "description": "Fields as one JSON object.",
                },
            },
            "patternProperties": {"^images[.].+$": _BINARY_PICTURE},
            "additionalProperties": False,
        },
    }


def _request(picture: Json, by_camera: Json) -> Json:
    return {
        "type": "object",
        "properties": {"image": picture, "images": by_camera, **FIELDS},
        "required": ["instruction"],
        "additionalProperties": False,
    }


def _by_camera(picture: Json) -> Json:
    return {"type": "object", "additionalProperties": picture, "description": "Pictures by camera name."}


def _errors(codes: Iterable[str]) -> dict[str, Json]:
    """One response per status, naming every code it can carry."""
    by_status: dict[int, list[ErrorKind]] = {}
    for code in codes:
        by_status.setdefault(ERRORS[code].status, []).append(ERRORS[code])
    return {str(status): _error_response(kinds) for status, kinds in sorted(by_status.items())}


def _error_response(kinds: list[ErrorKind]) -> Json:
    can_wait = any(kind.is_retryable for kind in kinds)
    headers = {**_COMMON_HEADERS, **({"Retry-After": _header("Seconds to wait, when known")} if can_wait else {})}
    return {
        "description": "\n".join(f"- `{kind.code}`: {kind.message}" for kind in kinds),
        "headers": headers,
        "content": {
            "application/json": {
                "schema": {"$ref": _REF + "Error"},
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


def _safety() -> dict[str, Json]:
    """The guard's words (docs/SAFETY.md); its enumerations are its own."""
    rule = {
        "id": {"type": "string"},
        "status": {"enum": [status.value for status in RuleStatus]},
        "score": {"type": ["number", "null"]},
        "reason": {"enum": [reason.value for reason in NotEvaluated]},
        "value": {"type": "number"},
        "limit": {"type": "number"},
        "unit": {"type": "string"},
        "at": {"type": "array", "description": "Step, and dimension or null."},
        "message": {"type": "string"},
    }
    coverage = {"type": "object", "properties": {"evaluated": {"type": "integer"}, "applicable": {"type": "integer"}}}
    properties: dict[str, Json] = {
        "decision": {"enum": [decision.value for decision in Decision]},
        "overall_score": {"type": "number", "description": "The lowest score of the rules that could look; 0 is refused."},
        "limiting_rule": {"type": ["string", "null"]},
        "score_is_upper_bound": {"type": "boolean", "description": "Some rule could not look."},
        "coverage": coverage,
        "rules": {"type": "array", "items": {"type": "object", "properties": rule, "required": ["id", "status", "score"]}},
        "profile": {"type": "string"},
        "guard_version": {"type": "string"},
        "certified": {"const": False, "description": "This is not a safety function."},
    }
    fallback: dict[str, Json] = {
        "type": {"type": "string"},
        "values": {"type": ["array", "null"], "items": {"type": ["number", "null"]}},
        "is_safe_state": {"const": False, "description": "Holding can keep pressing; the right stop is yours."},
    }
    return {
        "Safety": {"type": "object", "properties": properties, "required": list(properties)},
        "Fallback": {"type": "object", "properties": fallback, "required": list(fallback)},
    }


def _error_schema() -> Json:
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
    error = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "object", "properties": {"error": error}, "required": ["error"]}


def _header(description: str) -> Json:
    return {"description": description, "schema": {"type": "string"}}


_COMMON_HEADERS = {"X-Request-Id": _header("The id of this request, also in every log and on the invoice's record")}
_LIMIT_HEADERS = {
    "RateLimit-Policy": _header("The limits that apply"),
    "RateLimit": _header("What is left of them"),
}


def golden() -> bytes:
    """The bytes of the golden file."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=1) + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(golden())
