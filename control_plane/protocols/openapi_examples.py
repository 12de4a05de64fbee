"""The examples of the OpenAPI description. Their shapes are held against the real decoder and the real types by a test."""

from typing import Any

_REQUEST_ID = "inf_019ab8c2d4e57f3a9b1c2d3e4f506172"
# 16×16 pixels of a table: small enough to read, and a request that works when it is copied.
_PICTURE = "UklGRjQAAABXRUJQVlA4ICgAAACwAQCdASoQABAADMDOJbACdAEIYBAAAM3J+iy5yPpakx+uSN6xhgAA"

REQUEST: dict[str, Any] = {"image": _PICTURE, "instruction": "pick up red cube"}
REQUEST_FULL: dict[str, Any] = {
    **REQUEST,
    "model": "tabletop",
    "robot_type": "franka_panda",
    "state": [0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785, 0.04],
    "unnorm_key": "tabletop",
    "deadline_ms": 200,
    "session_id": "ep-17",
    "seq": 12,
    "obs_age_ms": 18,
    "executed_index": 3,
    "network_rtt_ms": 12.5,
    "safety": {
        "linear_speed_m_per_s": 0.1,
        "workspace": {"low_m": [0.2, -0.4, 0.0], "high_m": [0.7, 0.4, None]},
        "required_rules": ["D1", "D2"],
        "control_hz": 10,
    },
}
_ACTION: dict[str, Any] = {
    "values": [0.015, -0.008, -0.012, 0.0, 0.0, 0.01, 0.0],
    "chunk": [[0.015, -0.008, -0.012, 0.0, 0.0, 0.01, 0.0], [0.014, -0.007, -0.013, 0.0, 0.0, 0.01, 0.0]],
    "kind": "ee_delta_rotvec",
    "names": ["dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"],
    "units": ["m", "m", "m", "rad", "rad", "rad", "fraction"],
    "frame": "robot_base",
    "horizon": 2,
    "control_hz": 10.0,
}
_SAFETY: dict[str, Any] = {
    "decision": "pass",
    "overall_score": 0.92,
    "limiting_rule": "B1.ee_linear_speed",
    "score_is_upper_bound": True,
    "coverage": {"evaluated": 9, "applicable": 14},
    "profile": "franka_panda@1/sha256:e0a8c1dbc765be47+preset:reduced",
    "guard_version": "0.1.0",
    "certified": False,
    "rules": [
        {
            "id": "B1.ee_linear_speed",
            "status": "passed",
            "score": 0.92,
            "value": 0.21,
            "limit": 0.25,
            "unit": "m/s",
            "at": [0, None],
        },
        {"id": "D2.workspace", "status": "not_evaluated", "score": None, "reason": "no_state"},
    ],
}
ANSWER: dict[str, Any] = {
    "request_id": _REQUEST_ID,
    "model": "tabletop",
    "model_version": "1",
    "robot_type": "franka_panda",
    "session_id": "ep-17",
    "seq": 12,
    "action": _ACTION,
    "safety": _SAFETY,
    "modified": False,
    "truncated_at": None,
    "expires_in_ms": 162.7,
    "refused_for": None,
    "timings_ms": {"decode": 0.6, "preprocess": 1.1, "queue": 0.4, "compute": 4.0, "guard": 0.1, "total": 7.3},
    "usage": {"requests_remaining_minute": 99, "requests_remaining_day": 9999, "requests_remaining_month": 99999},
}
REFUSAL: dict[str, Any] = {
    **ANSWER,
    "action": {**_ACTION, "values": [], "chunk": [], "horizon": 0},
    "safety": {**_SAFETY, "decision": "reject", "overall_score": 0.0, "limiting_rule": "A2.finite"},
    "modified": True,
    "expires_in_ms": None,
    "refused_for": "motion",
    "fallback": {"type": "hold", "values": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, None], "is_safe_state": False},
}
ERROR: dict[str, Any] = {
    "error": {
        "type": "invalid_request",
        "code": "invalid_state",
        "message": "state has 7 numbers, this model takes 8.",
        "param": None,
        "request_id": _REQUEST_ID,
        "doc_url": "https://api.example.com/errors#invalid_state",
        "is_retryable": False,
        "retry_after_ms": None,
        "robot_action": "hold",
    }
}
READY: dict[str, Any] = {
    "status": "degraded",
    "dependencies": {"redis": "down", "postgres": "up", "triton": "up"},
    "policies": {"tabletop": "ready"},
}
MODELS: dict[str, Any] = {
    "models": [
        {
            "id": "tabletop",
            "version": "1",
            "versions": ["1", "2"],
            "family": "tabletop",
            "description": "Picks up the named cube from a table with a simulated Franka Panda.",
            "licence": "Apache-2.0",
            "is_default": True,
            "status": "ready",
            "robots": ["franka_panda"],
            "cameras": [{"name": "front", "is_required": True, "width": 128, "height": 128, "resize": "resize_naive"}],
            "state": None,
            "instruction": {"max_chars": 256, "max_tokens": 24},
            "action": {
                "kind": "ee_delta_rotvec",
                "names": ["dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"],
                "units": ["m", "m", "m", "rad", "rad", "rad", "fraction"],
                "frame": "robot_base",
                "gripper_polarity": "one_is_closed",
                "horizon": 8,
                "control_hz": 10.0,
                "unnorm_keys": ["tabletop"],
                "is_unnorm_key_required": False,
            },
        }
    ]
}
ROBOTS: dict[str, Any] = {
    "robots": [
        {
            "robot_type": "franka_panda",
            "name": "Franka Emika Panda (FER)",
            "profile": "franka_panda@1/sha256:e0a8c1dbc765be47",
            "presets": ["reduced", "manufacturer"],
            "models": ["tabletop"],
            "action_kinds": ["ee_delta_rotvec"],
        }
    ]
}
SAFETY_PROFILE: dict[str, Any] = {
    "robot_type": "franka_panda",
    "name": "Franka Emika Panda (FER)",
    "version": 1,
    "content_hash": "sha256:e0a8c1dbc765be47…",
    "profile": {
        "cartesian": {"linear_speed_m_per_s": {"value": 1.7, "source": "franka docs, source/control_parameters.rst"}},
        "gripper": {"range": {"values": [0.0, 1.0], "source": "action convention"}, "step_max": None},
    },
    "limits": {"reduced": {"linear_speed_m_per_s": 0.25}, "manufacturer": {"linear_speed_m_per_s": 1.7}},
    "certified": False,
}
_SETTINGS: dict[str, Any] = {
    "limits": {"required_rules": ["D2"]},
    "robots": {
        "franka_panda": {
            "linear_speed_m_per_s": 0.1,
            "workspace": {"low_m": [0.2, -0.4, 0.02], "high_m": [0.7, 0.4, None]},
            "keep_outs": [{"low_m": [0.5, 0.1, 0.0], "high_m": [0.7, 0.4, 0.3]}],
        }
    },
    "instruction": {
        "mode": "allow_list",
        "templates": ["pick up {thing}", "put {thing} into the bin"],
        "slots": {"thing": ["red cube", "blue cube"]},
    },
    "on_reject": "answer",
}
SETTINGS_CHANGE: dict[str, Any] = {"settings": _SETTINGS, "version": 2}
SETTINGS_REPORT: dict[str, Any] = {
    "version": 3,
    "changed_by": "key_019ab8c2d4e57f3a9b1c2d3e4f506172",
    "changed_at": "2026-11-23T18:00:00Z",
    "preset": "reduced",
    "calibrations": [],
    "settings": _SETTINGS,
}
CHECK_REQUEST: dict[str, Any] = {
    "model": "tabletop",
    "robot_type": "franka_panda",
    "actions": _ACTION["chunk"],
    "control_hz": 10,
    "state": {"q": [0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785]},
    "previous": {"actions": _ACTION["chunk"], "age_ms": 180, "seq": 11},
    "seq": 12,
    "executed_index": 1,
    "obs_age_ms": 18,
    "safety": {"linear_speed_m_per_s": 0.1},
}
CHECK_ANSWER: dict[str, Any] = {
    "request_id": _REQUEST_ID,
    "model": "tabletop",
    "robot_type": "franka_panda",
    "action": {"values": _ACTION["values"], "chunk": _ACTION["chunk"], "horizon": 2},
    "safety": _SAFETY,
    "modified": False,
    "truncated_at": None,
    "expires_in_ms": 182.0,
    "refused_for": None,
    "timings_ms": {"guard": 0.1, "total": 1.3},
    "usage": ANSWER["usage"],
}
