"""The OpenAPI description of the action guard: its verdict, robots and profiles, settings, the dry run.

Schemas come from the msgspec types that are really read and sent; only a verdict, which is plain dicts, is written here.
"""

from control_plane.errors import ERRORS
from control_plane.guarding.fields import RequestSafety
from control_plane.inference.dry_run import CheckFields
from control_plane.protocols.openapi_errors import (
    COMMON_HEADERS,
    IDEMPOTENCY_CODES,
    KEY_CODES,
    LIMIT_HEADERS,
    REF,
    Json,
    errors,
)
from control_plane.protocols.openapi_examples import (
    CHECK_ANSWER,
    CHECK_REQUEST,
    ROBOTS,
    SAFETY_PROFILE,
    SETTINGS_CHANGE,
    SETTINGS_REPORT,
)
from control_plane.protocols.robots import PATH as ROBOTS_PATH
from control_plane.protocols.robots import PROFILE_PATH, Robots, SafetyProfile
from control_plane.protocols.safety_check import PATH as CHECK_PATH
from control_plane.protocols.safety_check import CheckAnswer
from control_plane.protocols.safety_settings import PATH as SETTINGS_PATH
from control_plane.protocols.safety_settings import SettingsChange, SettingsReport
from safety.verdict import Decision, NotEvaluated, RuleStatus

STRUCTS = (RequestSafety, Robots, SafetyProfile, SettingsChange, SettingsReport, CheckFields, CheckAnswer)

_KEY: list[Json] = [{"key": []}]
_BODY_CODES = ("invalid_body", "body_timeout", "body_too_large", "unsupported_media_type", "missing_field", "unknown_field")
_LIMIT_CODES = tuple(kind.code for kind in ERRORS.values() if kind.type == "rate_limit" and kind.code != "spend_limit")
_SETTINGS_CODES = ("invalid_field", "invalid_safety", "settings_changed", "key_restricted")
_CHECK_CODES = (
    *("invalid_field", "invalid_state", "invalid_safety", "instruction_refused", "sequence_replayed"),
    *(code for code in IDEMPOTENCY_CODES if code != "outcome_unknown"),
    *("robot_out_of_scope", "policy_out_of_scope"),
    *("unknown_model", "unknown_robot", "overloaded", "journal_unavailable", "guard_unavailable"),
)


def safety_paths() -> dict[str, Json]:
    """The operations, by address."""
    return {
        ROBOTS_PATH: {"get": _get("list_robots", "Robots that have a safety profile", "Robots", ROBOTS)},
        PROFILE_PATH: {"get": _profile()},
        SETTINGS_PATH: {
            "get": _get("show_safety_settings", "Your own layer of the action guard", "SettingsReport", SETTINGS_REPORT),
            "put": _change(),
        },
        CHECK_PATH: {"post": _check()},
    }


def _get(name: str, summary: str, schema: str, example: Json) -> Json:
    return {
        "operationId": name,
        "summary": summary,
        "security": _KEY,
        "responses": {"200": _answer(summary, schema, example), **errors(KEY_CODES)},
    }


def _profile() -> Json:
    operation = _get("safety_profile", "Every limit of a robot, with its source", "SafetyProfile", SAFETY_PROFILE)
    operation["parameters"] = [
        {"name": "robot_type", "in": "path", "required": True, "schema": {"type": "string"}, "example": "franka_panda"}
    ]
    operation["responses"] |= errors(("robot_not_found",))
    return operation


def _change() -> Json:
    return {
        "operationId": "change_safety_settings",
        "summary": "Put other settings in their place; they may only tighten",
        "description": "Counts as one request against the limits. Every API process works with it within a second.",
        "security": _KEY,
        "requestBody": _body("SettingsChange", SETTINGS_CHANGE),
        "responses": {
            "200": _answer("What holds now", "SettingsReport", SETTINGS_REPORT, counts=True),
            **errors((*KEY_CODES, *_LIMIT_CODES, *_BODY_CODES, *_SETTINGS_CODES)),
        },
    }


def _check() -> Json:
    body = _body("CheckFields", CHECK_REQUEST)
    body["content"]["application/msgpack"] = {"schema": {"$ref": REF + "CheckFields"}}
    return {
        "operationId": "check_motion",
        "summary": "What the action guard would say about a motion of yours; nothing is inferred",
        "description": "Counts against the limits, is never billed, and touches nothing that a session remembers.",
        "security": _KEY,
        "requestBody": body,
        "responses": {
            "200": _answer("The verdict, also when it is a refusal", "CheckAnswer", CHECK_ANSWER, counts=True),
            **errors((*KEY_CODES, *_LIMIT_CODES, *_BODY_CODES, *_CHECK_CODES)),
        },
    }


def _body(schema: str, example: Json) -> Json:
    return {"required": True, "content": {"application/json": {"schema": {"$ref": REF + schema}, "example": example}}}


def _answer(description: str, schema: str, example: Json, *, counts: bool = False) -> Json:
    return {
        "description": description,
        "headers": COMMON_HEADERS | (LIMIT_HEADERS if counts else {}),
        "content": {"application/json": {"schema": {"$ref": REF + schema}, "example": example}},
    }


def safety_schemas() -> dict[str, Json]:
    """What is not generated."""
    return _verdicts()


def _verdicts() -> dict[str, Json]:
    """The guard's words (docs/SAFETY.md); its enumerations are its own."""
    rule = {
        "id": {"type": "string"},
        "status": {"enum": [status.value for status in RuleStatus]},
        "score": {"type": ["number", "null"]},
        "reason": {"enum": [reason.value for reason in NotEvaluated]},
        "value": {"type": ["number", "null"], "description": "Null where it is not finite."},
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
