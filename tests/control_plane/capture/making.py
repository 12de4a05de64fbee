"""Samples of nobody in particular."""

import io
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
from PIL import Image

from control_plane.capture.sample import Sample, Shot, Terms, Words
from control_plane.usage.request_id import mint

WORDS = Words(
    action=("dx", "dy", "dz", "rx", "ry", "rz", "grip"),
    action_kind="ee_delta_rotvec",
    state=("x", "y", "z"),
    control_hz=10.0,
)


def a_picture(seed: int, *, size: tuple[int, int] = (64, 48)) -> bytes:
    """A JPEG of one colour, which its seed decides."""
    out = io.BytesIO()
    Image.new("RGB", size, (seed * 37 % 256, seed * 11 % 256, 90)).save(out, "JPEG", quality=95)
    return out.getvalue()


def a_sample(seed: int = 0, **values: Any) -> Sample:
    """Valid, unless said otherwise."""
    usual = Sample(
        request_id=mint(),
        customer_id=UUID(int=7),
        terms=Terms(policy="train", version=2, consent_id=UUID(int=9), keep_days=365),
        model="tabletop",
        model_version=1,
        robot_type="franka_panda",
        words=WORDS,
        instruction="pick up the red cube",
        shots=(Shot(camera="front", kind="jpg", data=a_picture(seed)),),
        is_whole=True,
        kept_because=("every",),
        state=[0.1, 0.2, float(seed)],
        action=[[0.01 * seed, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], [9.0] * 7],
        decision="pass",
        safety_score=0.9,
        session_id="ep-1",
        seq=seed,
    )
    return msgspec.structs.replace(usual, **values)


def redness(data: bytes) -> int:
    """How red a picture is at its corner."""
    return int(np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[0, 0, 0])
