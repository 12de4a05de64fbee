"""Valid manifests for the tests: the shipped policy's facts, and those of a policy that speaks in tokens."""

import json
from pathlib import Path
from typing import Any

from export.contract.manifest import Manifest

BUNDLE = Path("model_repository/tabletop")


def bounds() -> dict[str, Any]:
    """How one data set's actions are scaled; the gripper is not."""
    return {"scheme": "bounds_q99", "low": [-0.1] * 7, "high": [0.2] * 7, "mask": [True] * 6 + [False], "epsilon": 0.0}


def shipped() -> dict[str, Any]:
    """The committed manifest as JSON values."""
    found: dict[str, Any] = json.loads((BUNDLE / "manifest.json").read_text())
    return found


def speaking() -> dict[str, Any]:
    """A policy in OpenVLA's manner: two data sets, tokens, a crop, buckets of prompts."""
    facts = shipped()
    facts["cameras"][0] |= {"rotate_180": True, "crop_area": 0.9}
    facts["instruction"] |= {"append_id": 29871, "max_tokens": 64, "buckets": [32, 48, 64], "pad_id": 32000}
    facts["action"] |= {
        "unnorm_keys": ["bridge", "fractal"],
        "unnorm_tensor": "unnorm_index",
        "statistics": {"bridge": bounds(), "fractal": bounds()},
        "horizon": 1,
    }
    facts["outputs"] = [
        {"tensor": "action", "dtype": "float32", "shape": [1, 7], "atol": 1e-5},
        {"tensor": "tokens", "dtype": "int64", "shape": [7], "atol": 0.0},
        {"tensor": "is_action", "dtype": "uint8", "shape": [7], "atol": 0.0},
        {"tensor": "logprob", "dtype": "float32", "shape": [7], "atol": 1e-4},
        {"tensor": "entropy", "dtype": "float32", "shape": [7], "atol": 1e-4},
    ]
    facts["tokens"] = {
        "tensor": "tokens",
        "is_action_tensor": "is_action",
        "logprob_tensor": "logprob",
        "entropy_tensor": "entropy",
        "vocabulary": 256,
    }
    return facts


def manifest(facts: dict[str, Any]) -> Manifest:
    """As it is read from a file: strictly, from JSON."""
    return Manifest.model_validate_json(json.dumps(facts))
