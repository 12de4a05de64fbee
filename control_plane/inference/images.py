"""One picture, encoded or raw, becomes upright 8-bit RGB pixels, or an `invalid_image` that says why not.

Only Pillow's JPEG, PNG and WebP readers can run, and the size is read from the header before any pixel is decoded. What it
decides (docs/API.md, "Images"): EXIF orientation is applied; grey, palette and CMYK are converted; transparency is laid on
black; 16-bit and animated pictures are refused. Raw pixels may be float in [0, 1] and have their channels first, as openpi's
clients send them. Runs in a worker thread; knows no camera and no policy.
"""

import io
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from control_plane.errors import ApiError

MIN_SIDE = 16
_MAX_JPEG_SCANS = 32  # each scan of a progressive JPEG is a pass over every pixel; ordinary ones have about ten
_ORIENTATION = 0x0112
_JPEG, _START_OF_IMAGE = b"\xff\xd8\xff", b"\xff\xd8"
_BASELINE_FRAME = 0xC0  # one pass over the pixels, Huffman coded (ITU-T T.81, table B.1)
_MAX_HEADER_SEGMENTS = 16  # before the frame; cameras write three to six
_QUICK_BYTES = 65_536

_UPRIGHT: Mapping[int, Image.Transpose] = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)

# Everything that Pillow's three readers are seen to raise on hostile bytes (the tests mutate real files).
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, OverflowError, MemoryError)


def baseline_jpeg_pixels(encoded: bytes) -> int:
    """Width × height of a plain, small JPEG file, read from its header; 0 for anything else, however it is broken."""
    if not encoded.startswith(_JPEG) or len(encoded) > _QUICK_BYTES:
        return 0
    at = len(_START_OF_IMAGE)
    for _ in range(_MAX_HEADER_SEGMENTS):
        if at + 9 > len(encoded) or encoded[at] != 0xFF:
            return 0
        marker, length = encoded[at + 1], int.from_bytes(encoded[at + 2 : at + 4])
        if marker == _BASELINE_FRAME:
            return int.from_bytes(encoded[at + 5 : at + 7]) * int.from_bytes(encoded[at + 7 : at + 9])
        at += 2 + length
    return 0


def quick_pixels(data: bytes | NDArray[Any]) -> int:
    """Width × height of what is surely done in a moment: a plain, small JPEG or bytes that are pixels already; else 0."""
    if isinstance(data, bytes):
        return baseline_jpeg_pixels(data)
    return data.size // 3 if data.dtype == np.uint8 else 0


def read(data: bytes | NDArray[Any], *, param: str, max_pixels: int) -> NDArray[np.uint8]:
    """Upright (height, width, 3) RGB pixels. Raises invalid_image naming `param`."""
    if isinstance(data, bytes):
        return np.asarray(decode(data, param=param, max_pixels=max_pixels))
    try:
        return _pixels(data, max_pixels)
    except _Refusal as refusal:
        raise ApiError("invalid_image", f"{param}: {refusal}.", param=param) from None


def decode(encoded: bytes, *, param: str, max_pixels: int) -> Image.Image:
    """An upright RGB image. Raises invalid_image naming `param`."""
    try:
        image = _open(encoded, max_pixels)
        image.load()
        return _rgb(_upright(image))
    except _Refusal as refusal:
        raise ApiError("invalid_image", f"{param}: {refusal}.", param=param) from None
    except _BROKEN:
        raise ApiError("invalid_image", f"{param}: the picture is broken or cut short.", param=param) from None


class _Refusal(Exception):  # noqa: N818 -- private, reads as what it is
    """Why this picture is not taken."""


def _pixels(raw: NDArray[Any], max_pixels: int) -> NDArray[np.uint8]:
    """Channels last; floats become bytes as openpi's own client and server do it: times 255, cut off."""
    if raw.ndim != 3 or 3 not in {raw.shape[0], raw.shape[2]}:
        raise _Refusal(f"its shape is {list(raw.shape)[:8]}; send [height, width, 3] or [3, height, width]")
    upright = raw if raw.shape[2] == 3 else raw.transpose(1, 2, 0)
    _judge_size(upright.shape[1], upright.shape[0], max_pixels)
    if raw.dtype.kind == "f":
        if not (raw.min() >= 0 and raw.max() <= 1):  # NaN fails both
            raise _Refusal("its floating-point numbers are not all between 0 and 1")
        upright = (255 * upright).astype(np.uint8)
    elif raw.dtype != np.uint8:
        raise _Refusal(f"its numbers are {raw.dtype}; send uint8, or floating point between 0 and 1")
    return np.ascontiguousarray(upright)


def _open(encoded: bytes, max_pixels: int) -> Image.Image:
    """The picture with its header read and judged, no pixel decoded yet."""
    reader = next((opener for magic, opener in _READERS.items() if encoded.startswith(magic)), None)
    if reader is None:
        raise _Refusal("it is neither JPEG, PNG nor WebP" if encoded else "it is empty")
    image = reader(encoded, max_pixels)
    _judge_size(image.width, image.height, max_pixels)
    if getattr(image, "is_animated", False):
        raise _Refusal("it is animated; send one frame")
    return image


def _judge_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise _Refusal(f"it has {width}×{height} pixels, more than {max_pixels}")
    if min(width, height) < MIN_SIDE:
        raise _Refusal(f"it is {width}×{height} pixels, each side must have at least {MIN_SIDE}")


def _jpeg(encoded: bytes, _max_pixels: int) -> ImageFile.ImageFile:
    """Not through `Image.open`, which hands JPEGs with several pictures inside to yet another reader."""
    if encoded.count(b"\xff\xda") > _MAX_JPEG_SCANS:
        raise _Refusal(f"it has more than {_MAX_JPEG_SCANS} scans")
    return JpegImageFile(io.BytesIO(encoded))


def _png(encoded: bytes, _max_pixels: int) -> ImageFile.ImageFile:
    if len(encoded) > 24 and encoded[24] == 16:
        raise _Refusal("it has 16 bits per channel; send 8")
    return PngImageFile(io.BytesIO(encoded))


def _webp(encoded: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """libwebp reserves the whole canvas when it opens a file, so the size is judged before it may."""
    _judge_size(*_webp_size(encoded), max_pixels)
    return WebPImageFile(io.BytesIO(encoded))


def _webp_size(encoded: bytes) -> tuple[int, int]:
    """Width and height from the first chunk (RFC 9649 §2.5–2.7)."""
    chunk = encoded[12:16]
    if chunk == b"VP8X":
        return int.from_bytes(encoded[24:27], "little") + 1, int.from_bytes(encoded[27:30], "little") + 1
    if chunk == b"VP8L":
        bits = int.from_bytes(encoded[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        return int.from_bytes(encoded[26:28], "little") & 0x3FFF, int.from_bytes(encoded[28:30], "little") & 0x3FFF
    raise _Refusal("its first WebP chunk is not known")


_READERS: Mapping[bytes, Callable[[bytes, int], ImageFile.ImageFile]] = MappingProxyType(
    {_JPEG: _jpeg, b"\x89PNG\r\n\x1a\n": _png, b"RIFF": _webp}
)


def _upright(image: Image.Image) -> Image.Image:
    """As the camera was held: the EXIF orientation applied."""
    if "exif" not in image.info:
        return image
    how = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    return image if how is None else image.transpose(how)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    layered = image.convert("RGBA")
    black = Image.new("RGB", image.size)
    black.paste(layered, mask=layered.getchannel("A"))
    return black
