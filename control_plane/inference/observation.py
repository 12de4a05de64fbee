"""The frozen values that travel down the pipeline: what was asked, and what of it the policy will see.

    Inquiry       as the caller sent it, whatever the wire; well-formed, not yet held against any policy
    Observation   held against a policy's manifest: every camera known, state complete, robot fitting
    Prepared      the tensors for Triton, and how long decoding and preparing took

Knows no HTTP, no wire format and no store.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from control_plane.guarding.fields import RequestSafety
from control_plane.policies.catalogue import ServedPolicy
from control_plane.triton import Tensor
from export.contract.facts import Camera
from export.contract.manifest import Manifest

# An encoded file, or pixels as they came: uint8 or float, (height, width, 3) or (3, height, width); judged when they are
# prepared.
PictureData = bytes | NDArray[Any]
Fit = Callable[["Inquiry", Manifest], "Inquiry"]


class Inquiry(Struct, frozen=True, kw_only=True):
    """`image` is for the policy's first camera; `images` are by camera name.

    A door whose wire names cameras and state in its own way leaves them in `fit`, which is asked once the policy is known, and
    says in `sent_as` what each camera was called there and in `ignored` what the policy has no use for.
    """

    image: PictureData | None
    images: Mapping[str, PictureData]
    instruction: str
    model: str | None = None
    robot_type: str | None = None
    state: tuple[float, ...] | None = None
    unnorm_key: str | None = None
    deadline_ms: int | None = None
    session_id: str | None = None
    seq: int | None = None
    obs_age_ms: float | None = None
    executed_index: int | None = None
    network_rtt_ms: float | None = None
    safety: RequestSafety | None = None
    fit: Fit | None = None
    sent_as: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


class Picture(Struct, frozen=True, kw_only=True):
    """One image, the camera it is for and the request field it came from."""

    camera: Camera
    data: PictureData
    param: str


class Observation(Struct, frozen=True, kw_only=True):
    """What the policy will be asked. `state` is float32 (len(manifest.state.names),), or None when it was not sent."""

    policy: ServedPolicy
    robot_type: str
    pictures: tuple[Picture, ...]
    instruction: str
    state: NDArray[np.float32] | None
    unnorm_key: str | None
    session_id: str | None
    seq: int | None
    obs_age_ms: float | None
    executed_index: int | None
    network_rtt_ms: float | None
    safety: RequestSafety | None
    ignored: tuple[str, ...] = ()


class Prepared(Struct, frozen=True, kw_only=True):
    """Triton's inputs, with the time each half took inside the worker thread."""

    inputs: tuple[Tensor, ...]
    decode_ms: float
    preprocess_ms: float
