"""A multipart/form-data body: `image` and `images.<camera>` parts hold encoded pictures, every other part is a field as text.

A part named `request` may hold any of the fields as one JSON object. The body is already in memory, so it is split at its
boundary in one pass of C: a parser that walks bytes in Python can be made to burn seconds by a hostile body.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec
from python_multipart.multipart import parse_options_header

from control_plane.errors import ApiError
from control_plane.guarding.fields import RequestSafety
from control_plane.inference.fields import AgeMs, BinaryFields, DeadlineMs, ExecutedIndex, Sequence, complaints, given, inquiry_of
from control_plane.inference.observation import Inquiry
from control_plane.inference.parse_json import first_picture, named_pictures, text_fields

_MAX_PARTS = 64
_MAX_HEADER_BYTES = 4096
_CAMERA = "images."

# Text has no types, so a number is read as JSON writes it: "0.5" in quotes, NaN and true stay refused.
_NUMBERS: Mapping[str, msgspec.json.Decoder[Any]] = MappingProxyType(
    {
        "state": msgspec.json.Decoder(list[float]),
        "deadline_ms": msgspec.json.Decoder(DeadlineMs),
        "seq": msgspec.json.Decoder(Sequence),
        "obs_age_ms": msgspec.json.Decoder(AgeMs),
        "executed_index": msgspec.json.Decoder(ExecutedIndex),
        "network_rtt_ms": msgspec.json.Decoder(AgeMs),
        "safety": msgspec.json.Decoder(RequestSafety),
    }
)
_TEXTS = frozenset({"instruction", "model", "robot_type", "unnorm_key", "session_id"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    name: str
    data: bytes


def parse_multipart(body: bytes, content_type: str) -> Inquiry:
    """The request as a value. Raises ApiError naming the field at fault."""
    values: dict[str, Any] = {}
    images: dict[str, bytes] = {}
    for part in _parts(body, content_type):
        _take(part, values, images)
    with complaints("multipart/form-data"):
        fields = msgspec.convert({**values, "images": images}, BinaryFields)
    return inquiry_of(fields, image=given(fields.image), images=images)


def _take(part: _Part, values: dict[str, Any], images: dict[str, bytes]) -> None:
    if part.name == "request":
        _take_request(part.data, values, images)
    elif part.name.startswith(_CAMERA):
        _put(images, part.name.removeprefix(_CAMERA), part.data, param=part.name)
    elif part.name == "image":
        _put(values, "image", part.data, param="image")
    else:
        _put(values, part.name, _field(part), param=part.name)


def _take_request(data: bytes, values: dict[str, Any], images: dict[str, bytes]) -> None:
    fields = text_fields(data)
    for name, value in msgspec.structs.asdict(fields).items():
        if name not in {"image", "images"} and given(value) is not None:
            _put(values, name, value, param=name)
    if (image := first_picture(fields)) is not None:
        _put(values, "image", image, param="image")
    for name, encoded in named_pictures(fields).items():
        _put(images, name, encoded, param=f"images.{name}")


def _put(where: dict[str, Any], name: str, value: object, *, param: str) -> None:
    if name in where:
        raise ApiError("invalid_body", f"'{param[:128]}' is given twice.", param=param[:128])
    where[name] = value


def _field(part: _Part) -> object:
    """The part's value, of the type that the field has in JSON."""
    decoder = _NUMBERS.get(part.name)
    if decoder is not None:
        with complaints("JSON", inside=part.name):
            return decoder.decode(part.data)
    if part.name not in _TEXTS:
        raise ApiError("unknown_field", f"The field '{part.name[:128]}' is not known.", param=part.name[:128])
    with complaints("text", inside=part.name):
        return part.data.decode()


def _parts(body: bytes, content_type: str) -> list[_Part]:
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise _broken("the Content-Type names no boundary")
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, _MAX_PARTS + 2)
    if len(pieces) > _MAX_PARTS + 2:
        raise _broken(f"it has more than {_MAX_PARTS} parts")
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise _broken("the closing boundary is missing")
    return [_part(piece) for piece in pieces[1:-1]]


def _part(piece: bytes) -> _Part:
    headers, separator, data = piece.partition(b"\r\n\r\n")
    if not separator or len(headers) > _MAX_HEADER_BYTES:
        raise _broken("a part has no headers")
    for line in headers.split(b"\r\n"):
        field, _, value = line.partition(b":")
        if field.strip().lower() == b"content-disposition":
            name = parse_options_header(value.strip())[1].get(b"name", b"")
            return _Part(name=name.decode(errors="replace"), data=data)
    raise _broken("a part has no name")


def _broken(reason: str) -> ApiError:
    return ApiError("invalid_body", f"The body is not valid multipart/form-data: {reason}.")
