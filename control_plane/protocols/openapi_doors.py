"""The OpenAPI description of the doors for other clients on HTTP; WebSockets have no place in OpenAPI (docs/PROTOCOLS.md)."""

import base64
import json
from typing import Any

from control_plane.errors import ERRORS
from control_plane.protocols.act import PATH as ACT_PATH
from control_plane.protocols.actions import METADATA_PATH
from control_plane.protocols.actions import PATH as ACTIONS_PATH
from control_plane.protocols.openapi_errors import (
    COMMON_HEADERS,
    KEY_CODES,
    LIMIT_HEADERS,
    NOT_FROM_INFERENCE,
    REF,
    Json,
    errors,
    header,
)
from control_plane.protocols.openapi_examples import REQUEST

_BLACK = base64.b64encode(bytes(16 * 16 * 3)).decode()  # the smallest picture: a request that works when it is copied
_KEY: list[Json] = [{"key": []}]
_HEADERS = {"Server-Timing": header("Milliseconds per stage"), **COMMON_HEADERS, **LIMIT_HEADERS}
_ARRAY: dict[str, Any] = {"__numpy__": "mpmZmZmZqT8…", "dtype": "<f8", "shape": [7]}
_ACT_REQUEST: dict[str, Any] = {
    "image": {"__numpy__": _BLACK, "dtype": "|u1", "shape": [16, 16, 3]},
    "instruction": "pick up red cube",
    "unnorm_key": "tabletop",
}
_ACTIONS_REQUEST: dict[str, Any] = {
    "model": "tabletop",
    "input": {"task": "pick up red cube", "observation": {"images": {"front": {"base64": REQUEST["image"]}}}},
    "runtime": {"return_timing": True},
}
_ACTIONS_ANSWER: dict[str, Any] = {
    "id": "inf_019ab8c2d4e57f3a9b1c2d3e4f506172",
    "object": "action.generation",
    "created": 1780000000,
    "model": "tabletop",
    "data": [
        {
            "index": 0,
            "input_index": 0,
            "candidate_index": 0,
            "action": {
                "type": "continuous",
                "dtype": "float32",
                "shape": [2, 7],
                "values": [[0.015, -0.008, -0.012, 0.0, 0.0, 0.01, 0.0], [0.014, -0.007, -0.013, 0.0, 0.0, 0.01, 0.0]],
            },
        }
    ],
    "usage": {"action_horizon": 2, "action_dim": 7, "prefix_cache_hit": False},
    "timings": {"compute_ms": 4.0, "total_ms": 7.3},
}
_METADATA: dict[str, Any] = {
    "object": "action.metadata",
    "model": "tabletop",
    "policy_family": "tabletop",
    "input": {"image_keys": ["front"], "image_size": [128, 128], "state_dim": 8},
    "output": {"action_type": "continuous", "action_horizon": 8, "action_dim": 7, "dtype": "float32"},
}


def doors_paths() -> dict[str, Json]:
    """The operations, by address."""
    return {
        ACT_PATH: {"post": _act()},
        ACTIONS_PATH: {"post": _actions()},
        METADATA_PATH: {"get": _metadata()},
    }


def doors_schemas() -> dict[str, Json]:
    """What only these doors send."""
    array = {
        "type": "object",
        "description": "An array as json_numpy writes it: base64 of its bytes in C order.",
        "properties": {
            "__numpy__": {"type": "string"},
            "dtype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 8},
        },
        "required": ["__numpy__", "dtype", "shape"],
        "additionalProperties": False,
    }
    return {"JsonNumpyArray": array}


def _act() -> Json:
    picture = {"oneOf": [{"$ref": REF + "JsonNumpyArray"}, {"type": "string", "description": "A file as base64."}]}
    payload = {
        "type": "object",
        "description": "The payload, or the payload as text in `encoded` alone. Further fields as in POST /v1/inference.",
        "properties": {
            "image": picture,
            "instruction": {"type": "string"},
            "unnorm_key": {"type": "string"},
            "encoded": {"type": "string"},
        },
    }
    examples = {
        "array": {"value": _ACT_REQUEST},
        "encoded": {"value": {"encoded": json.dumps(_ACT_REQUEST)}},
    }
    action = {"oneOf": [{"$ref": REF + "JsonNumpyArray"}, {"type": "string"}]}
    return {
        "operationId": "act",
        "summary": "OpenVLA's protocol: the next step, as json_numpy",
        "security": _KEY,
        "requestBody": {"required": True, "content": {"application/json": {"schema": payload, "examples": examples}}},
        "responses": {
            "200": {
                "description": "The first step of the motion; text that holds it if the request was encoded.",
                "headers": _HEADERS,
                "content": {"application/json": {"schema": action, "examples": {"array": {"value": _ARRAY}}}},
            },
            **_inference_errors(),
        },
    }


def _actions() -> Json:
    request: Json = {"type": "object", "required": ["input"]}
    answer: Json = {"type": "object"}
    return {
        "operationId": "generate_actions",
        "summary": "SGLang's protocol: a chunk of actions",
        "security": _KEY,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": request, "examples": {"base64": {"value": _ACTIONS_REQUEST}}},
                "application/msgpack": {"schema": request},
            },
        },
        "responses": {
            "200": {
                "description": 'The envelope, or with `"response_format": "raw"` the payload alone. msgpack if `Accept` says so.',
                "headers": _HEADERS,
                "content": {
                    "application/json": {"schema": answer, "examples": {"envelope": {"value": _ACTIONS_ANSWER}}},
                    "application/msgpack": {"schema": answer},
                },
            },
            **_inference_errors(),
        },
    }


def _metadata() -> Json:
    model = {"name": "model", "in": "query", "required": False, "schema": {"type": "string"}}
    content = {"application/json": {"schema": {"type": "object"}, "example": _METADATA}}
    return {
        "operationId": "actions_metadata",
        "summary": "What a model takes and gives, in SGLang's words",
        "security": _KEY,
        "parameters": [model],
        "responses": {
            "200": {"description": "The model", "headers": COMMON_HEADERS, "content": content},
            **errors((*KEY_CODES, "unknown_model")),
        },
    }


def _inference_errors() -> dict[str, Json]:
    return errors(kind.code for kind in ERRORS.values() if kind.code not in NOT_FROM_INFERENCE)
