"""A camera picture as the bytes that go on the wire: numpy HWC uint8 RGB, PIL images, or a file's bytes as they are.

OpenCV gives BGR: turn it with `frame[:, :, ::-1]` first, nobody can see it in the numbers. Knows no request.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from PIL import Image, ImageOps

from vlaapi_client.errors import InvalidRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vlaapi_client.results import Camera

Picture = Union[bytes, bytearray, memoryview, "NDArray[Any]", Image.Image]

_DIMENSIONS, _CHANNELS = 3, 3
_SAME_RULE = "resize_naive"  # the one rule of the service that Pillow alone does to the bit: a plain bicubic stretch


@dataclass(frozen=True)
class Encoding:
    """How pixels become bytes. `jpeg_quality` None: PNG, without any loss and some four times as large."""

    jpeg_quality: int | None = 90

    def __post_init__(self) -> None:
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise ValueError("jpeg_quality is 1 to 100, or None for PNG")


def encoded(picture: Picture, encoding: Encoding, *, param: str, camera: Camera | None = None) -> bytes:
    """The bytes to send. With `camera`, a larger picture is brought down to what that camera's model looks at.

    Only where the service would do exactly the same (a plain stretch), so that the model sees what it would have seen; everything
    else goes out in full size. Raises InvalidRequest naming `param`.
    """
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return _not_empty(bytes(picture), param)
    image = _image(picture, param)
    if camera is not None:
        image = _as_seen(image, camera)
    return _file(image, encoding)


def _not_empty(data: bytes, param: str) -> bytes:
    if not data:
        raise InvalidRequest("invalid_image", "the picture is empty", param=param)
    return data


def _image(picture: Any, param: str) -> Image.Image:
    if isinstance(picture, Image.Image):
        return ImageOps.exif_transpose(picture)
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim != _DIMENSIONS or array.shape[2] != _CHANNELS or 0 in array.shape:
        found = f"{array.dtype} {array.shape}"
        raise InvalidRequest("invalid_image", f"a picture is uint8 (height, width, 3) in RGB, not {found}", param=param)
    return Image.fromarray(np.ascontiguousarray(array))


def _as_seen(image: Image.Image, camera: Camera) -> Image.Image:
    size = (camera.width, camera.height)
    is_larger = image.width >= camera.width and image.height >= camera.height and image.size != size
    if camera.resize != _SAME_RULE or image.mode != "RGB" or not is_larger:
        return image
    return image.resize(size, Image.Resampling.BICUBIC)


def _file(image: Image.Image, encoding: Encoding) -> bytes:
    file = io.BytesIO()
    if encoding.jpeg_quality is None or image.mode not in {"RGB", "L"}:  # how other modes become RGB is the service's to say
        image.save(file, "PNG", compress_level=1)
    else:
        image.save(file, "JPEG", quality=encoding.jpeg_quality, subsampling=0)  # 4:4:4: instructions speak of colours
    return file.getvalue()
