"""Step 2: the bytes of a request become an Inquiry, whatever wire they came by.

JSON (base64 pictures), multipart/form-data (pictures as parts) or msgpack (pictures as bin). Touches no store and decodes no
picture: what a caller without a key can make us do is bounded by the body limit.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from control_plane.errors import ApiError
from control_plane.inference.observation import Inquiry
from control_plane.inference.parse_json import parse_json
from control_plane.inference.parse_msgpack import parse_msgpack
from control_plane.inference.parse_multipart import parse_multipart


def parse(body: bytes, content_type: str) -> Inquiry:
    """The request as a value. Raises ApiError naming the field at fault."""
    reader = _READERS.get(content_type.partition(";")[0].strip().lower())
    if reader is None:
        raise ApiError("unsupported_media_type")
    return reader(body, content_type)


_READERS: Mapping[str, Callable[[bytes, str], Inquiry]] = MappingProxyType(
    {
        "application/json": lambda body, _: parse_json(body),
        "application/msgpack": lambda body, _: parse_msgpack(body),
        "application/x-msgpack": lambda body, _: parse_msgpack(body),
        "multipart/form-data": parse_multipart,
    }
)
