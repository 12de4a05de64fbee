"""`POST /act`: OpenVLA's own server, for its clients. json_numpy in, the first step's action out, but with real statuses.

A body is the payload, or `{"encoded": "<the payload as text>"}`, and is answered in the same form. Where the original says
"error" with a 200, this says what is wrong and what the robot should do; a refused motion is an error too, never an action.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType
from numpy.typing import NDArray

from control_plane.errors import ApiError
from control_plane.inference.answer import Answer
from control_plane.inference.fields import Fields, complaints, given, inquiry_of, picture
from control_plane.inference.observation import Inquiry, PictureData
from control_plane.inference.parse_json import bounded_json
from control_plane.protocols.http_wire import Written, content_type_of, refusal
from control_plane.protocols.numpy_msgpack import array_of

PATH = "/act"


class JsonArray(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """An array as json_numpy writes it: base64 of its bytes in C order."""

    data: str = msgspec.field(name="__numpy__")
    dtype: str
    shape: Annotated[list[Annotated[int, Meta(ge=0)]], Meta(max_length=8)]


class Payload(Fields, frozen=True, kw_only=True):
    """What OpenVLA's server takes, and our own fields. `image` may also be a file as base64 text, as in `POST /v1/inference`."""

    image: JsonArray | str | UnsetType | None = UNSET
    encoded: str | UnsetType | None = UNSET


_DECODER = msgspec.json.Decoder(Payload)
_ARRAY = msgspec.json.Decoder(JsonArray)


@dataclass(slots=True, kw_only=True)
class Act:
    """One request's wire; it remembers in which form the answer is wanted."""

    errors_url: str
    is_encoded: bool = False

    def read(self, body: bytes, headers: Mapping[bytes, bytes]) -> Inquiry:
        """Raises ApiError naming the field at fault."""
        if content_type_of(headers) != "application/json":
            raise ApiError("unsupported_media_type", "Send application/json.")
        payload = _payload(body)
        if (inner := given(payload.encoded)) is not None:
            if payload != Payload(encoded=inner):
                raise ApiError("invalid_field", "'encoded' must be the only field.", param="encoded")
            self.is_encoded = True
            payload = _payload(inner.encode("utf-8", "surrogatepass"))
            if given(payload.encoded) is not None:
                raise ApiError("invalid_field", "What is encoded may not be encoded again.", param="encoded")
        return inquiry_of(payload, image=_image(payload.image), images={})

    def answer(self, answer: Answer) -> Written:
        """The first step, in float64 as the original has it."""
        if answer.is_refused:
            return refusal(answer, errors_url=self.errors_url)
        body = msgspec.json.encode(json_array(answer.verdict.actions[0]))
        return Written(body=msgspec.json.encode(body.decode()) if self.is_encoded else body)


def json_array(values: NDArray[Any]) -> dict[str, Any]:
    """An array as json_numpy reads it."""
    wide = np.ascontiguousarray(values, "<f8")
    return {"__numpy__": b64encode(wide.data).decode(), "dtype": "<f8", "shape": wide.shape}


def _payload(body: bytes) -> Payload:
    bounded_json(body)
    with complaints("JSON"):
        return _DECODER.decode(body)


def _image(value: JsonArray | str | UnsetType | None) -> PictureData | None:
    if isinstance(value, str) and value.lstrip().startswith("{"):  # an array that was written as text by itself
        with complaints("JSON", inside="image"):
            value = _ARRAY.decode(value)
    if isinstance(value, JsonArray):
        return array_of(picture(value.data, param="image"), value.dtype, value.shape, param="image")
    return picture(value, param="image") if isinstance(value, str) else None
