"""Examples of keys for the OpenAPI documents; a test reads them as the doors would."""

_ID = "0193a6b2c4d87e1fa2b3c4d5e6f70819"
_AT = "2026-11-27T18:30:00Z"

KEY = {
    "id": f"key_{_ID}",
    "customer": f"cus_{_ID}",
    "start": "vla_live_ab12…",
    "name": "arm 3",
    "is_test": False,
    "per_minute": 50,
    "robots": ["franka_panda"],
    "models": None,
    "allowed_ips": ["203.0.113.0/24"],
    "data_policy": None,
    "rotated_from": None,
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": _AT,
    "created_at": _AT,
}
NEW_KEY = {"name": "arm 3", "per_minute": 50, "robots": ["franka_panda"], "allowed_ips": ["203.0.113.0/24"]}
ISSUED = {
    "api_key": "vla_live_…",
    "id": f"key_{_ID}",
    "start": "vla_live_ab12…",
    "name": "arm 3",
    "is_test": False,
    "expires_at": None,
    "is_announced": True,
}
ROTATED = {"new": ISSUED, "old": {**KEY, "expires_at": "2026-11-28T18:30:00Z"}}
