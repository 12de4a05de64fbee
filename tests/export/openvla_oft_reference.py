"""What the original OpenVLA-OFT answered (see the fixture's README), and the same questions as wire inputs. No torch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.contract.manifest import Manifest
from export.contract.preprocess import resize
from export.contract.tokenize import InstructionTokenizer
from export.parity import Arrays

FIXTURE = Path(__file__).parents[1] / "fixtures" / "openvla_oft_tiny"
REFERENCE: dict[str, Any] = json.loads((FIXTURE / "reference.json").read_text())


def cases(robot: str) -> list[dict[str, Any]]:
    """The frozen questions and answers."""
    found: list[dict[str, Any]] = REFERENCE["robots"][robot]["cases"]
    return found


OSC_POSE = (0.05,) * 3 + (0.5,) * 3 + (1.0,)  # robosuite: what 1 means, in m and rad


def expected(robot: str, field: str) -> NDArray[np.float64]:
    """One answer of every case: "actions" in m and rad, "normalised" or "normalised_state"."""
    found = np.array([case[field] for case in cases(robot)])
    return found * OSC_POSE if (robot, field) == ("libero", "actions") else found


def picture(view: str) -> Image.Image:
    """A picture of the fixture."""
    return Image.open(FIXTURE / "images" / f"{view}.png").convert("RGB")


def wire(manifest: Manifest, folder: Path, robot: str) -> Arrays:
    """All cases as one batch, made by the contract alone; `folder` holds the tokenizer."""
    assert manifest.instruction is not None
    assert manifest.action.unnorm_tensor is not None
    tokenizer, keys, asked = InstructionTokenizer(folder, manifest.instruction), manifest.action.unnorm_keys, cases(robot)
    rows: dict[str, list[NDArray[np.generic]]] = {}
    for camera, view in zip(manifest.cameras, REFERENCE["robots"][robot]["views"], strict=True):
        rows[camera.tensor] = [resize(picture(f"{case['scene']}_{view}"), camera) for case in asked]
    rows[manifest.instruction.tensor] = [tokenizer.ids(case["instruction"]) for case in asked]
    if manifest.state is not None:
        rows[manifest.state.tensor] = [np.array(case["state"], np.float32) for case in asked]
    rows[manifest.action.unnorm_tensor] = [np.array([keys.index(case["unnorm_key"])], np.int64) for case in asked]
    return {name: np.stack(values) for name, values in rows.items()}
