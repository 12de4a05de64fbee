"""A JSON body, or the `request` part of a multipart one: pictures as base64 text.

Refuses a key given twice, which every JSON library otherwise settles silently in its own way.
"""

import json
import math
from collections import Counter
from typing import Any

import msgspec
from msgspec import UNSET

from control_plane.errors import ApiError
from control_plane.inference.fields import RawPictures, TextFields, complaints, given, inquiry_of, naming_the_camera, picture
from control_plane.inference.observation import Inquiry

# Far more of each than any request has, and none of them inside a base64 picture. A body with more is refused by counting, which
# takes milliseconds for the largest one; decoding hundreds of thousands of keys would hold up every other caller for seconds.
_MOST = {b'"': 4_000, b",": 4_000, b"[": 1_000, b"{": 1_000}

_FEW = 64  # of one of them in a body; so many are found faster one by one than by looking at every byte

_FIELDS = msgspec.json.Decoder(TextFields)
_RAW_PICTURES = msgspec.json.Decoder(RawPictures)


def parse_json(body: bytes) -> Inquiry:
    """The request as a value. Raises ApiError naming the field at fault."""
    fields = text_fields(body)
    return inquiry_of(fields, image=first_picture(fields), images=named_pictures(fields))


def text_fields(body: bytes) -> TextFields:
    """The decoded fields, pictures still base64."""
    quotes = bounded_json(body)
    try:
        with complaints("JSON"):
            fields = _FIELDS.decode(body)
    except ApiError as error:
        if error.kind.code == "invalid_body":
            error = _naming_the_number(error, body)
        raise naming_the_camera(error, lambda: _RAW_PICTURES.decode(body), starts=(b'"',)) from None
    if quotes != _quotes(fields):
        _refuse_repeated_keys(body)
    return fields


def bounded_json(body: bytes, *, numbers: int = 0) -> int:
    """How many quotes it has. Raises invalid_body for a body that costs more to decode than any real one; `numbers` more than
    usual may be listed.
    """
    found = {mark: _count(body, mark) for mark in _MOST}
    for mark, usual in _MOST.items():
        most = usual + numbers if mark in b",[" else usual
        if found[mark] > most:
            raise ApiError("invalid_body", f"The body has more than {most} of the character {mark.decode()}.")
    return found[b'"']


def _count(body: bytes, mark: bytes) -> int:
    at = -1
    for found in range(_FEW):
        at = body.find(mark, at + 1)
        if at < 0:
            return found
    return _FEW + body.count(mark, at + 1)


def first_picture(fields: TextFields) -> bytes | None:
    """What `image` holds."""
    text = given(fields.image)
    return None if text is None else picture(text, param="image")


def named_pictures(fields: TextFields) -> dict[str, bytes]:
    """What `images` holds, by camera."""
    return {name: picture(text, param=f"images.{name}") for name, text in (given(fields.images) or {}).items()}


def _naming_the_number(error: ApiError, body: bytes) -> ApiError:
    """NaN, Infinity and 1e999 are no JSON numbers, and msgspec says only at which byte it stopped: names the field."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return error
    for name, value in fields.items() if isinstance(fields, dict) else ():
        place = _infinite_in(value, name[:128], depth=4)
        if place is not None:
            code = {"state": "invalid_state", "safety": "invalid_safety"}.get(name, "invalid_field")
            return ApiError(code, f"{place}: not a finite number."[:300], param=place[:200])
    return error


def _infinite_in(value: object, path: str, *, depth: int) -> str | None:
    """Where the first number is that is none. The body has few brackets, so this is short."""
    if isinstance(value, float):
        return None if math.isfinite(value) else path
    inner: list[tuple[str, object]] = []
    if isinstance(value, list):
        inner = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    elif isinstance(value, dict):
        inner = [(f"{path}.{name[:64]}", item) for name, item in value.items()]
    found = (_infinite_in(item, place, depth=depth - 1) for place, item in inner if depth)
    return next((place for place in found if place is not None), None)


def _quotes(fields: TextFields) -> int:
    """How many quote characters a body with exactly these fields has when nothing is escaped: two per key and per text."""
    count = 0
    for value in msgspec.structs.astuple(fields):
        if value is UNSET:
            continue
        count += 2
        if isinstance(value, str):
            count += 2 + value.count('"')
        elif isinstance(value, dict):
            count += 4 * len(value)
        elif isinstance(value, msgspec.Struct):
            count += _quotes_inside(value)
    return count


def _quotes_inside(value: object) -> int:
    """The same for `safety`, where a field left out cannot be told from a null; whoever writes null has the body read twice."""
    if isinstance(value, str):
        return 2 + value.count('"')
    if isinstance(value, msgspec.Struct):
        return sum(2 + _quotes_inside(item) for item in msgspec.structs.astuple(value) if item is not None)
    return sum(map(_quotes_inside, value)) if isinstance(value, list) else 0


def _refuse_repeated_keys(body: bytes) -> None:
    """Exact and slow; runs only when the count of quotes says that something is odd (a repeated key, or an escape)."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        name, count = Counter(name for name, _ in pairs).most_common(1)[0] if pairs else ("", 0)
        if count > 1:
            raise ApiError("invalid_body", f"The key '{name[:128]}' appears twice.", param=name[:128])
        return {}

    json.loads(body, object_pairs_hook=unique, parse_float=len, parse_int=len)  # digits are not worth converting here
