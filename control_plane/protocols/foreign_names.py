"""Observations whose keys are somebody else's (openpi's examples, SGLang, LeRobot), laid onto a policy's own cameras and state.

A picture's key is taken without its prefixes: the manifest's camera of that name, else the place that the examples give it,
else it is left out and said so. State goes whole, or in DROID's two parts if the policy has the same quantities in the same
units. Nothing is converted, filled in or guessed: what does not fit is refused by its key. Pure; the table is
docs/PROTOCOLS.md, a test compares.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from control_plane.errors import ApiError
from control_plane.inference.fields import STATE_MAX
from control_plane.inference.observation import Inquiry, PictureData
from export.contract.facts import State
from export.contract.manifest import Manifest

_PREFIXES = ("input.", "observation/", "observation.", "images/", "images.", "image/")
_STATE, _JOINTS, _GRIPPER = "state", "joint_position", "gripper_position"
_STATES = frozenset({_STATE, _JOINTS, _GRIPPER})
_FRACTION = "fraction"
_FIRST: tuple[str, ...] = ()

# Where a picture goes that is named as in the examples: the first camera, or the only one whose name has all these words.
PLACES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "image": _FIRST,  # LIBERO
        "exterior_image_1_left": _FIRST,  # DROID
        "cam_high": _FIRST,  # ALOHA
        "base_0_rgb": _FIRST,  # pi0.5 as LeRobot and SGLang have it
        "full_image": _FIRST,  # OpenVLA-OFT
        "wrist_image": ("wrist",),
        "wrist_image_left": ("wrist",),  # DROID: of the one wrist camera's two lenses
        "image2": ("wrist",),  # LIBERO as LeRobot has it
        "exterior_image_2_left": ("exterior", "2"),
        "cam_low": ("low",),
        "cam_left_wrist": ("left", "wrist"),
        "cam_right_wrist": ("right", "wrist"),
        "left_wrist_0_rgb": ("left", "wrist"),
        "right_wrist_0_rgb": ("right", "wrist"),
    }
)


class Foreign(Struct, frozen=True, kw_only=True):
    """Pictures and state parts by the key they were sent under; `fit` of an Inquiry."""

    pictures: Mapping[str, PictureData]
    states: Mapping[str, tuple[float, ...]]

    def __call__(self, inquiry: Inquiry, manifest: Manifest) -> Inquiry:
        """The inquiry in the policy's own names. Raises unknown_camera, invalid_field, invalid_state naming the key."""
        images: dict[str, PictureData] = {}
        sent_as: dict[str, str] = {}
        ignored: list[str] = []
        for key, data in self.pictures.items():
            camera = _camera(key, manifest)
            if camera is None:
                ignored.append(key)
            elif camera in images:
                raise ApiError(
                    "invalid_field", f"Camera '{camera}' is given twice: as {sent_as[camera]} and as {key}.", param=key
                )
            else:
                images[camera], sent_as[camera] = data, key
        if manifest.state is None:
            ignored += self.states
        state = None if manifest.state is None else _state(self.states, manifest.state)
        return replace(inquiry, images=images, sent_as=sent_as, state=state, ignored=(*inquiry.ignored, *ignored))


def is_picture(value: object) -> bool:
    """Three-dimensional pixels, or the bytes of a file."""
    return isinstance(value, bytes | memoryview) or (isinstance(value, np.ndarray) and value.ndim == 3)


def is_state(key: str) -> bool:
    """Whether this is the state, or a part of it."""
    return short(key) in _STATES


def short(key: str) -> str:
    """The key without the prefixes of the conventions."""
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return key


def flat(found: Mapping[str, Any], *, depth: int = 2) -> Iterator[tuple[str, Any]]:
    """The leaves, keys joined with '/', as openpi's nested observations are meant."""
    for key, value in found.items():
        if isinstance(value, dict) and depth and key != "safety":
            yield from ((f"{key}/{inner}", leaf) for inner, leaf in flat(value, depth=depth - 1))
        else:
            yield key, value


def numbers(key: str, value: object) -> tuple[float, ...]:
    """The finite numbers of a list or of a flat array. Raises invalid_state naming the key."""
    found = np.asarray(value) if isinstance(value, list | np.ndarray) and len(value) <= STATE_MAX else None
    if found is None or found.ndim != 1 or found.dtype.kind not in "iuf":
        raise ApiError("invalid_state", f"{key}: not a flat list of at most {STATE_MAX} numbers.", param=key)
    with np.errstate(over="ignore"):
        narrow = found.astype(np.float32)
    if not np.isfinite(narrow).all():
        at = int(np.argmin(np.isfinite(narrow)))
        raise ApiError("invalid_state", f"{key}[{at}] is not a finite float32 number.", param=f"{key}[{at}]")
    return tuple(found.tolist())


def _camera(key: str, manifest: Manifest) -> str | None:
    names = [camera.name for camera in manifest.cameras]
    name = short(key)
    if name in names:
        return name
    if name not in PLACES:
        raise ApiError("unknown_camera", f"The model has no camera '{name[:128]}'; it has {', '.join(names)}.", param=key[:200])
    words = PLACES[name]
    if words == _FIRST:
        return manifest.primary_camera.name
    fitting = [camera for camera in names if all(word in camera for word in words)]
    return fitting[0] if len(fitting) == 1 else None


def _state(sent: Mapping[str, tuple[float, ...]], spec: State) -> tuple[float, ...] | None:
    by_name = {short(key): (key, values) for key, values in sent.items()}
    if not by_name:
        return None
    if len(by_name) < len(sent) or (_STATE in by_name and len(by_name) > 1):
        raise ApiError("invalid_state", f"The state is given twice: as {' and as '.join(sent)}.", param=next(iter(sent)))
    if _STATE in by_name:
        return by_name[_STATE][1]
    joints = [index for index, name in enumerate(spec.names) if name.startswith("joint")]
    grippers = [index for index in range(len(spec.names)) if index not in joints]
    whole = dict.fromkeys(range(len(spec.names)), 0.0)
    for part, places, unit in ((_JOINTS, joints, "rad"), (_GRIPPER, grippers, _FRACTION)):
        key, values = by_name.get(part, (None, ()))
        if key is None and places:
            raise ApiError("missing_field", f"The state needs {part} too: {_named(spec, places)}.", param=part)
        if key is not None and (len(values) != len(places) or any(spec.units[index] != unit for index in places)):
            message = (
                f"{key} has {len(values)} numbers in {unit}; the model's state there is {_named(spec, places) or 'nothing'}."
            )
            raise ApiError(
                "invalid_state", f"{message} Send state in the model's own order and units, or leave it out.", param=key
            )
        whole |= zip(places, values, strict=True)
    return tuple(whole.values())


def _named(spec: State, places: list[int]) -> str:
    return ", ".join(f"{spec.names[index]} ({spec.units[index]})" for index in places)
