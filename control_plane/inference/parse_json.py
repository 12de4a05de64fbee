"""A JSON body, or the `request` part of a multipart one: pictures as base64 text.

Refuses a key given twice, which every JSON library otherwise settles silently in its own way.
"""

import json
from collections import Counter
from typing import Any

import msgspec
from msgspec import UNSET

from control_plane.errors import ApiError
from control_plane.inference.fields import RawPictures, TextFields, complaints, given, inquiry_of, naming_the_camera, picture
from control_plane.inference.observation import Inquiry

_FIELDS = msgspec.json.Decoder(TextFields)
_RAW_PICTURES = msgspec.json.Decoder(RawPictures)


def parse_json(body: bytes) -> Inquiry:
    """The request as a value. Raises ApiError naming the field at fault."""
    fields = text_fields(body)
    return inquiry_of(fields, image=first_picture(fields), images=named_pictures(fields))


def text_fields(body: bytes) -> TextFields:
    """The decoded fields, pictures still base64."""
    try:
        with complaints("JSON"):
            fields = _FIELDS.decode(body)
    except ApiError as error:
        raise naming_the_camera(error, lambda: _RAW_PICTURES.decode(body), starts=(b'"',)) from None
    if body.count(b'"') != _quotes(fields):
        _refuse_repeated_keys(body)
    return fields


def first_picture(fields: TextFields) -> bytes | None:
    """What `image` holds."""
    text = given(fields.image)
    return None if text is None else picture(text, param="image")


def named_pictures(fields: TextFields) -> dict[str, bytes]:
    """What `images` holds, by camera."""
    return {name: picture(text, param=f"images.{name}") for name, text in (given(fields.images) or {}).items()}


def _quotes(fields: TextFields) -> int:
    """How many quote characters a body with exactly these fields has when nothing is escaped: two per key and per text."""
    count = 0
    for name in fields.__struct_fields__:
        value = getattr(fields, name)
        if value is UNSET:
            continue
        count += 2
        if isinstance(value, str):
            count += 2 + value.count('"')
        elif isinstance(value, dict):
            count += 4 * len(value)
    return count


def _refuse_repeated_keys(body: bytes) -> None:
    """Exact and slow; runs only when the count of quotes says that something is odd (a repeated key, or an escape)."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        name, count = Counter(name for name, _ in pairs).most_common(1)[0] if pairs else ("", 0)
        if count > 1:
            raise ApiError("invalid_body", f"The key '{name[:128]}' appears twice.", param=name[:128])
        return {}

    json.loads(body, object_pairs_hook=unique, parse_float=len, parse_int=len)  # digits are not worth converting here
