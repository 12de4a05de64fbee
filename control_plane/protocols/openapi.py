"""The OpenAPI description, written by hand where words matter and generated where the code already says it.

Answer schemas come from the msgspec types that are really sent, errors from the table. `tests/golden/openapi.json` shows every
change to a reviewer (`make golden` rewrites it: `python -m control_plane.protocols.openapi`). Knows no running service.
"""

import sys
from collections.abc import Mapping

import msgspec

from control_plane.errors import ERRORS
from control_plane.inference.answer import InferenceAnswer
from control_plane.policies.routes import Models
from control_plane.protocols.openapi_doors import doors_paths, doors_schemas
from control_plane.protocols.openapi_endpoints import paths_of, schemas_of
from control_plane.protocols.openapi_errors import (
    COMMON_HEADERS,
    KEY_CODES,
    LIMIT_HEADERS,
    NOT_FROM_INFERENCE,
    REF,
    Json,
    error_schema,
    errors,
    header,
    with_idempotency,
)
from control_plane.protocols.openapi_examples import ANSWER, MODELS, READY, REFUSAL, REQUEST, REQUEST_FULL
from control_plane.protocols.openapi_safety import STRUCTS as SAFETY_STRUCTS
from control_plane.protocols.openapi_safety import safety_paths, safety_schemas
from control_plane.protocols.operations import ReadyReport
from control_plane.protocols.own_endpoints import OWN_ENDPOINTS

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
    "session_id": {
        "type": "string",
        "maxLength": 128,
        "description": "Your episode; kept with the log row and echoed. The guard remembers its last accepted chunk for 10 s.",
    },
    "seq": {"type": "integer", "minimum": 0, "description": "Your count of observations; must grow within a session; echoed."},
    "obs_age_ms": {"type": "number", "minimum": 0, "description": "Age of the observation when it was sent."},
    "executed_index": {
        "type": "integer",
        "minimum": -1,
        "description": "The last step of the session's previous chunk that was executed when this observation was taken.",
    },
    "network_rtt_ms": {"type": "number", "minimum": 0, "description": "Your last round trip, without our `total`."},
    "safety": {"$ref": REF + "RequestSafety"},
}
_REQUIRED = ("instruction",)
_PICTURE = "An encoded JPEG, PNG or WebP of the model's first camera"
_TEXT_PICTURE = {"type": "string", "description": f"{_PICTURE}, as base64 or a `data:` URL."}
_BINARY_PICTURE = {"type": "string", "format": "binary", "description": f"{_PICTURE}."}


def document() -> Json:
    """The whole description."""
    _, generated = msgspec.json.schema_components(
        (InferenceAnswer, Models, ReadyReport, *SAFETY_STRUCTS), ref_template=REF + "{name}"
    )
    for name in ("InferenceAnswer", "CheckAnswer"):
        generated[name]["properties"] |= {"safety": {"$ref": REF + "Safety"}, "fallback": {"$ref": REF + "Fallback"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vlaapi",
            "version": "1",
            "description": "Images and an instruction in; a checked robot motion out. docs/API.md has the whole story.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": with_idempotency(_paths()),
        "components": {
            "schemas": dict(
                sorted(
                    {
                        **generated,
                        **schemas_of(OWN_ENDPOINTS),
                        **_requests(),
                        **safety_schemas(),
                        **doors_schemas(),
                        "Error": error_schema(),
                    }.items()
                )
            ),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`Bearer vla_live_…`; `Api-Key vla_live_…` also works.",
                }
            },
        },
    }


def _paths() -> dict[str, Json]:
    return {
        "/v1/inference": {"post": _inference()},
        "/v1/models": {"get": _models()},
        **safety_paths(),
        **doors_paths(),
        **paths_of(OWN_ENDPOINTS, security="key"),
        "/health": {"get": _plain("health", "Whether this process is alive", {"status": "alive"})},
        "/healthz": {"get": _text("healthz", "The same in the words of openpi's server", "text/plain")},
        "/ready": {"get": _ready()},
        "/metrics": {"get": _text("metrics", "Prometheus metrics", "text/plain")},
        "/errors": {"get": _text("errors", "The error table as a page", "text/html")},
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
                "application/json": {"schema": {"$ref": REF + "InferenceRequest"}, "examples": examples},
                "multipart/form-data": {"schema": {"$ref": REF + "InferenceForm"}},
                "application/msgpack": {"schema": {"$ref": REF + "InferenceBinaryRequest"}},
            },
        },
        "responses": {
            "200": {
                "description": "A motion, or a refusal by the safety guard: then `values` and `chunk` are empty.",
                "headers": {"Server-Timing": header("Milliseconds per stage"), **COMMON_HEADERS, **LIMIT_HEADERS},
                "content": {
                    "application/json": {
                        "schema": {"$ref": REF + "InferenceAnswer"},
                        "examples": {"motion": {"value": ANSWER}, "refused by the guard": {"value": REFUSAL}},
                    }
                },
            },
            **errors(kind.code for kind in ERRORS.values() if kind.code not in NOT_FROM_INFERENCE),
        },
    }


def _models() -> Json:
    answer = {"schema": {"$ref": REF + "Models"}, "example": MODELS}
    return {
        "operationId": "list_models",
        "summary": "What each model wants and gives",
        "security": [{"key": []}],
        "responses": {
            "200": {"description": "The models", "headers": COMMON_HEADERS, "content": {"application/json": answer}},
            **errors(KEY_CODES),
        },
    }


def _ready() -> Json:
    content = {"application/json": {"schema": {"$ref": REF + "ReadyReport"}, "example": READY}}
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
        "properties": {
            name: field if name in _REQUIRED else _or_null(field)
            for name, field in {"image": picture, "images": by_camera, **FIELDS}.items()
        },
        "required": list(_REQUIRED),
        "additionalProperties": False,
    }


def _or_null(field: Json) -> Json:
    """Null is the same as leaving a field out."""
    if "$ref" in field:
        return {"anyOf": [field, {"type": "null"}]}
    return {**field, "type": [field["type"], "null"]}


def _by_camera(picture: Json) -> Json:
    return {"type": "object", "additionalProperties": picture, "description": "Pictures by camera name."}


def golden() -> bytes:
    """The bytes of the golden file."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=1) + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(golden())
