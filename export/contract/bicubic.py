"""PIL's bicubic resize of 8-bit RGB, to the last bit: by a small library of our own where one was compiled, else by Pillow.

Columns first, then rows, as Pillow has always done it; since version 13 it begins with the rows of a tall picture, which moves
some colours by one. `compile_bicubic.py` makes the library; without it the same bytes cost four to twelve times as much.
"""

import ctypes
import hashlib
import math
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SOURCE = Path(__file__).with_suffix(".c")
_WEIGHT_BITS, _LOW_BITS, _PART_BITS = 22, 11, 8
_SUPPORT = 2.0  # the cubic ends here, in output pixels
_AT_ONCE = 4
_BLOCK_PIXELS = 11  # a row of these holds one of the library's blocks
_MOST_ROWS = 4  # that the library takes at once
_AVX2, _VNNI = 0, 1  # the library's ways
_LONGEST = 8192  # pixels; weights of longer sides would take tens of megabytes
_REMEMBERED = 32  # pairs of lengths, a megabyte at most each; a robot's camera has one size


class _Axis(ctypes.Structure):
    _fields_ = (
        ("way", ctypes.c_int32),
        ("inputs", ctypes.c_int32),
        ("outputs", ctypes.c_int32),
        ("taps", ctypes.c_int32),
        ("first", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
    )


@dataclass(frozen=True, slots=True)
class _Resizer:
    library: Any
    way: int


def library_path() -> Path:
    """Where the library of this very source lies once it is compiled."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    return SOURCE.with_name(f"bicubic-{digest[:16]}.so")


def is_compiled() -> bool:
    """Whether this process resizes with the library."""
    return _fastest() is not None


def bicubic(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(height, width, 3) pixels, made as large as `size` (width, height) says; where they are already, the same array."""
    fastest = _fastest()
    if fastest is None or size[0] < _BLOCK_PIXELS or max(*pixels.shape, *size) > _LONGEST:
        return by_pillow(pixels, size)
    return _by_library(fastest, pixels, size)


def by_pillow(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The same by Pillow alone."""
    columns = Image.fromarray(pixels).resize((size[0], len(pixels)), Image.Resampling.BICUBIC)
    return np.asarray(columns.resize(size, Image.Resampling.BICUBIC))


def _by_library(resizer: _Resizer, pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    width, height = size
    found = np.ascontiguousarray(pixels)
    if found.shape[1] != width:
        found = _across(resizer, found, width)
    return found if found.shape[0] == height else _down(resizer, found, height)


def _across(resizer: _Resizer, pixels: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    height, before, colours = pixels.shape
    axis = _axis(before, width, way=resizer.way, is_across=True)
    out = np.empty((height, width, colours), np.uint8)
    spare = np.zeros(_MOST_ROWS * (before + axis.taps + 2) * colours, np.uint8)
    resizer.library.across(pixels.ctypes.data, height, out.ctypes.data, ctypes.byref(axis), spare.ctypes.data)
    return out


def _down(resizer: _Resizer, pixels: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    before, width, colours = pixels.shape
    axis = _axis(before, height, way=resizer.way, is_across=False)
    if before < axis.taps:  # the rows that are not there weigh nothing, but are read
        pixels = np.concatenate([pixels, np.zeros((axis.taps - before, width, colours), np.uint8)])
    out = np.empty((height, width, colours), np.uint8)
    resizer.library.down(pixels.ctypes.data, width * colours, out.ctypes.data, ctypes.byref(axis))
    return out


@lru_cache(maxsize=_REMEMBERED)
def _axis(inputs: int, outputs: int, *, way: int, is_across: bool) -> _Axis:
    first, weights = _weights(inputs, outputs)
    taps = weights.shape[1]
    if way == _VNNI and is_across:  # it makes four outputs at once; those that are too many weigh nothing
        more = -outputs % 4
        first, weights = np.pad(first, (0, more)), np.pad(weights, ((0, more), (0, 0)))
    words = _in_bytes(weights) if way == _VNNI else _in_halves(weights, is_across=is_across)
    first, words = np.ascontiguousarray(first), np.ascontiguousarray(words)
    axis = _Axis(way, inputs, outputs, taps, first.ctypes.data, words.ctypes.data)
    axis.kept = (first, words)  # what it points at lives as long as it
    return axis


def _in_halves(weights: NDArray[np.int32], *, is_across: bool) -> NDArray[np.int32]:
    halves = (weights >> _LOW_BITS, weights & (2**_LOW_BITS - 1))
    words = [half.astype(np.int16).view(np.int32) for half in halves]
    if is_across:  # each word for four colours, of which the last is none; two words fill one register
        words = [np.repeat(part, 4, axis=1).reshape(len(weights), -1, 8) for part in words]
    return np.stack(words, axis=2)


def _in_bytes(weights: NDArray[np.int32]) -> NDArray[np.int32]:
    """Each the sum of three signed bytes, 2¹⁶, 2⁸ and 1 times; no weight leaves ±1.2, so that the highest is a byte too."""
    low = weights.astype(np.int8)  # the last eight bits with their sign, which the next part makes good
    rest = (weights - low) >> _PART_BITS
    middle = rest.astype(np.int8)
    high = ((rest - middle) >> _PART_BITS).astype(np.int8)
    return np.stack([part.view(np.int32) for part in (high, middle, low)], axis=2)


def _weights(inputs: int, outputs: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Where each output's inputs begin, (outputs,), and their weights in 2⁻²², (outputs, taps); in PIL's order of arithmetic."""
    scale = inputs / outputs
    stretch = max(scale, 1.0)
    support = _SUPPORT * stretch
    centres = (np.arange(outputs) + 0.5) * scale
    begin = np.maximum((centres - support + 0.5).astype(np.int32), 0)[:, None]
    behind = np.minimum((centres + support + 0.5).astype(np.int32), inputs)[:, None]
    taps = math.ceil((behind - begin).max() / _AT_ONCE) * _AT_ONCE
    places = np.minimum(begin, max(inputs - taps, 0)) + np.arange(taps, dtype=np.int32)
    cubic = _cubic((places - centres[:, None] + 0.5) * (1.0 / stretch))
    weights = np.where((begin <= places) & (places < behind), cubic, 0.0)
    weights /= np.cumsum(weights, axis=1)[:, -1:]  # a sum in order; numpy's own adds in pairs
    whole = weights * (1 << _WEIGHT_BITS)
    return places[:, 0], np.trunc(whole + np.copysign(0.5, whole)).astype(np.int32)


def _cubic(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic with a = -0.5 (IEEE Trans. ASSP 29, 1981), multiplied out as PIL does."""
    x, a = np.abs(distances), -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < _SUPPORT, far, 0.0))


@cache
def _fastest() -> _Resizer | None:
    """The fastest way of the library that this processor has and that is right on a first picture."""
    library = _library()
    if library is None:
        return None
    supported = [_Resizer(library, way) for way in (_VNNI, _AVX2) if library.is_supported(way)]
    return next((resizer for resizer in supported if _is_right(resizer)), None)


@cache
def _library() -> Any:
    """The compiled library, or None: not compiled, of another source, or for another processor."""
    path = library_path()
    if not path.is_file():
        return None
    try:
        library = ctypes.CDLL(str(path))
    except OSError:
        return None
    pointer, number, axis = ctypes.c_void_p, ctypes.c_int32, ctypes.POINTER(_Axis)
    library.across.argtypes, library.across.restype = (pointer, number, pointer, axis, pointer), None
    library.down.argtypes, library.down.restype = (pointer, number, pointer, axis), None
    return library


def _is_right(resizer: _Resizer) -> bool:
    """Whatever compiler made it."""
    pixels, size = (np.arange(41 * 37 * 3) * 89 % 251).astype(np.uint8).reshape(37, 41, 3), (19, 45)
    return np.array_equal(_by_library(resizer, pixels, size), by_pillow(pixels, size))
