"""The examples of the OpenAPI description. Their shapes are held against the real decoder and the real types by a test."""

from typing import Any

_REQUEST_ID = "inf_019ab8c2d4e57f3a9b1c2d3e4f506172"
_PICTURE = "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBD…"

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
}
_ACTION: dict[str, Any] = {
    "values": [0.015, -0.008, -0.012, 0.0, 0.0, 0.01, 0.0],
    "chunk": [[0.015, -0.008, -0.012, 0.0, 0.0, 0.01, 0.0], [0.014, -0.007, -0.013, 0.0, 0.0, 0.01, 0.0]],
    "kind": "ee_delta_rotvec",
    "names": ["dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"],
    "units": ["m", "m", "m", "rad", "rad", "rad", "fraction"],
    "frame": "robot_base",
    "horizon": 8,
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
    "timings_ms": {"decode": 0.6, "preprocess": 1.1, "queue": 0.4, "compute": 4.0, "guard": 0.1, "total": 7.3},
    "usage": {"requests_remaining_minute": 99, "requests_remaining_day": 9999, "requests_remaining_month": 99999},
}
REFUSAL: dict[str, Any] = {
    **ANSWER,
    "action": {**_ACTION, "values": [], "chunk": []},
    "safety": {**_SAFETY, "decision": "reject", "overall_score": 0.0, "limiting_rule": "A2.finite"},
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
            },
        }
    ]
}
