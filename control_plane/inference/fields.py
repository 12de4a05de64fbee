"""The request's fields as msgspec types, and how a wrong one is told to the caller.

Strict means: "0.5", true, NaN and 1e999 are not numbers, unknown names are refused, and every complaint names its field.
Called by `parse.py` and `multipart.py`; knows no content type and no policy.
"""

import re
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from control_plane.errors import ApiError
from control_plane.guarding.fields import RequestSafety
from control_plane.inference.observation import Fit, Inquiry, PictureData

_T = TypeVar("_T")

_FLOAT32_MAX = 3.4028234663852886e38  # a larger float64 becomes infinite in the policy's float32
_PATH = re.compile(r" - at (?:`key` in )?`\$\.?(?P<path>[^`]*)`$")
_NAMED = re.compile(r"^Object (?P<what>missing required|contains unknown) field `(?P<name>[^`]*)`$")
_SOME_CAMERA = "images[...]"
_CODES = {
    "instruction": "invalid_instruction",
    "state": "invalid_state",
    "image": "invalid_image",
    "images": "invalid_image",
    "safety": "invalid_safety",
}

# More is work for nothing: no policy has so many. msgpack says lengths first, so these refuse before anything is read.
_CAMERAS_MAX = 64
STATE_MAX = 1024

Name = Annotated[str, Meta(min_length=1, max_length=128)]
DeadlineMs = Annotated[int, Meta(ge=1, le=600_000)]
Sequence = Annotated[int, Meta(ge=0, le=2**53)]
AgeMs = Annotated[float, Meta(ge=0, le=86_400_000)]
ExecutedIndex = Annotated[int, Meta(ge=-1, le=10_000)]


class Fields(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Everything but the pictures. null is the same as leaving a field out."""

    instruction: str | UnsetType | None = UNSET
    model: Name | UnsetType | None = UNSET
    robot_type: Name | UnsetType | None = UNSET
    state: Annotated[list[float], Meta(max_length=STATE_MAX)] | UnsetType | None = UNSET
    unnorm_key: Name | UnsetType | None = UNSET
    deadline_ms: DeadlineMs | UnsetType | None = UNSET
    session_id: Name | UnsetType | None = UNSET
    seq: Sequence | UnsetType | None = UNSET
    obs_age_ms: AgeMs | UnsetType | None = UNSET
    executed_index: ExecutedIndex | UnsetType | None = UNSET
    network_rtt_ms: AgeMs | UnsetType | None = UNSET
    safety: RequestSafety | UnsetType | None = UNSET


class TextFields(Fields, frozen=True, kw_only=True):
    """With pictures as base64 text (JSON)."""

    image: str | UnsetType | None = UNSET
    images: Annotated[dict[str, str], Meta(max_length=_CAMERAS_MAX)] | UnsetType | None = UNSET


class BinaryFields(Fields, frozen=True, kw_only=True):
    """With pictures as bytes (msgpack, multipart)."""

    image: bytes | UnsetType | None = UNSET
    images: Annotated[dict[str, bytes], Meta(max_length=_CAMERAS_MAX)] | UnsetType | None = UNSET


class RawPictures(msgspec.Struct):
    """The pictures undecoded, to find which of them is at fault."""

    images: Annotated[dict[str, msgspec.Raw], Meta(max_length=_CAMERAS_MAX)] | None = None


def given(value: _T | UnsetType | None) -> _T | None:
    """The value, or None for a field that was left out."""
    return None if value is UNSET else value


def inquiry_of(
    fields: Fields, *, image: PictureData | None, images: Mapping[str, PictureData], fit: Fit | None = None
) -> Inquiry:
    """The fields as a frozen value. Raises missing_field, invalid_state, invalid_field."""
    instruction = given(fields.instruction)
    if instruction is None:
        raise ApiError("missing_field", "The field 'instruction' is missing.", param="instruction")
    return Inquiry(
        image=image,
        images=images,
        instruction=instruction,
        model=given(fields.model),
        robot_type=given(fields.robot_type),
        state=_finite(given(fields.state)),
        unnorm_key=given(fields.unnorm_key),
        deadline_ms=given(fields.deadline_ms),
        session_id=given(fields.session_id),
        seq=given(fields.seq),
        obs_age_ms=given(fields.obs_age_ms),
        executed_index=given(fields.executed_index),
        network_rtt_ms=given(fields.network_rtt_ms),
        safety=given(fields.safety),
        fit=fit,
    )


def _finite(state: list[float] | None) -> tuple[float, ...] | None:
    """msgpack can carry NaN and infinities, and every wire numbers that overflow float32."""
    if state is None:
        return None
    for index, value in enumerate(state):
        if not -_FLOAT32_MAX <= value <= _FLOAT32_MAX:
            raise ApiError("invalid_state", f"state[{index}] is not a finite float32 number.", param=f"state[{index}]")
    return tuple(state)


def picture(text: str, *, param: str) -> bytes:
    """The bytes of a base64 text, with or without a `data:` prefix. Raises invalid_image."""
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise ApiError("invalid_image", "A data: URL must be base64.", param=param)
    try:
        return msgspec.convert(text, bytes)  # a third of the time, and takes nothing that the other does not
    except ValueError:
        return _slowly(text, param)


def _slowly(text: str, param: str) -> bytes:
    """What is base64 by the letter, such as with more padding than it needs. Raises invalid_image."""
    try:
        return a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error is one; so is non-ASCII text
        message = "The image is not valid base64 (standard alphabet, padded, no line breaks)."
        raise ApiError("invalid_image", message, param=param) from None


def complaints(wire: str, *, inside: str = "") -> AbstractContextManager[None]:
    """Turns msgspec's errors into ours. `inside` is the field whose own text is being decoded, if not the whole body."""
    return _Complaints(wire, inside)


class _Complaints(msgspec.Struct, frozen=True):
    wire: str
    inside: str

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None) -> None:
        inside = self.inside
        if isinstance(error, msgspec.ValidationError):
            raise _complaint(str(error), inside) from None
        if isinstance(error, (msgspec.DecodeError, UnicodeDecodeError, RecursionError)):
            reason = str(error) if isinstance(error, msgspec.DecodeError) else "it is not UTF-8 text or is nested too deeply"
            code = _CODES.get(inside, "invalid_field") if inside else "invalid_body"
            raise ApiError(code, f"{inside or 'The body'} is not valid {self.wire}: {reason}.", param=inside or None) from None


def naming_the_camera(error: ApiError, reread: Callable[[], RawPictures], *, starts: tuple[bytes, ...]) -> ApiError:
    """msgspec says only `images[...]`; the caller has to know which camera. A good picture begins with one of `starts`."""
    if error.param != _SOME_CAMERA:
        return error
    try:
        pictures = reread().images or {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # a second fault further on
        return error
    name = next((name for name, raw in pictures.items() if not bytes(raw).lstrip().startswith(starts)), "…")
    return ApiError(error.kind.code, error.message.replace(_SOME_CAMERA, f"images.{name}"), param=f"images.{name}"[:200])


def _complaint(text: str, inside: str) -> ApiError:
    found = _PATH.search(text)
    reason = text[: found.start()] if found else text
    path = inside + (found["path"] if found else "")
    named = _NAMED.match(reason)
    if named is not None:
        path = f"{path}.{named['name']}" if path else named["name"]
        missing = named["what"] == "missing required"
        message = f"The field '{path}' is {'missing' if missing else 'not known'}."
        return ApiError("missing_field" if missing else "unknown_field", message[:300], param=path[:200])
    if not path:
        return ApiError("invalid_body", f"{reason}.")
    root = re.split(r"[.\[]", path, maxsplit=1)[0]
    return ApiError(_CODES.get(root, "invalid_field"), f"{path}: {reason.replace(' | null', '')}."[:300], param=path[:200])
