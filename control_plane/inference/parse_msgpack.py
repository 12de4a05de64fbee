"""A msgpack body: pictures as bin values, everything else as in JSON. The cheapest wire for a robot on a thin link."""

import msgspec

from control_plane.errors import ApiError
from control_plane.inference.fields import BinaryFields, RawPictures, complaints, given, inquiry_of, naming_the_camera
from control_plane.inference.observation import Inquiry

_FIELDS = msgspec.msgpack.Decoder(BinaryFields)
_RAW_PICTURES = msgspec.msgpack.Decoder(RawPictures)
_BIN_TAGS = (b"\xc4", b"\xc5", b"\xc6")


def parse_msgpack(body: bytes) -> Inquiry:
    """The request as a value. Raises ApiError naming the field at fault."""
    try:
        with complaints("msgpack"):
            fields = _FIELDS.decode(body)
    except ApiError as error:
        raise naming_the_camera(error, lambda: _RAW_PICTURES.decode(body), starts=_BIN_TAGS) from None
    return inquiry_of(fields, image=given(fields.image), images=given(fields.images) or {})
