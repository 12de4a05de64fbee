"""msgpack with NumPy arrays inside, as openpi's clients and SGLang's speak it; a strict reader of its own and a writer.

An array is a map of `__ndarray__`, `data`, `dtype`, `shape`, a NumPy scalar one of `__npgeneric__`, `data`, `dtype` (names as
bin or str). Read are numbers, truth values and texts only: no object, no structure, no complex number, and no msgpack
extension. Depth and the number of things are bounded, and every size is held against what has arrived before anything is made
of it. Knows no field's name.
"""

import math
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np

from control_plane.errors import ApiError

MAX_DEPTH = 8
MAX_THINGS = 4_000  # far more than an observation has; a body of a million empty maps is refused after these
_TOO_MANY = f"it has more than {MAX_THINGS} values"
_MAX_DIMENSIONS = 8
_MAX_TEXT = 4_096  # bytes of one text inside an array

_NUMBERS: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        order + kind: np.dtype(order + kind)
        for kind in ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
        for order in ("", "|", "<", ">", "=")
    }
)
_FLOAT32, _FLOAT64 = struct.Struct(">f").unpack_from, struct.Struct(">d").unpack_from
_UNSIGNED = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_SIGNED = {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_BIN = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_STR = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAY = {0xDC: 2, 0xDD: 4}
_MAP = {0xDE: 2, 0xDF: 4}
_PLAIN = {0xC0: None, 0xC2: False, 0xC3: True}


def decode(body: bytes) -> Any:
    """The one value of `body`; arrays lie in its memory and cannot be written to. Raises invalid_body."""
    reader = _Reader(body)
    try:
        value = reader.value(MAX_DEPTH)
    except (IndexError, struct.error):
        raise _broken("it ends in the middle") from None
    except UnicodeDecodeError:
        raise _broken("a text is not UTF-8") from None
    if reader.at != len(body):
        raise _broken("something follows its end")
    return value


def encode(value: Any) -> bytes:
    """The bytes. Arrays and NumPy scalars may stand anywhere."""
    return _ENCODER.encode(value)


def _broken(reason: str) -> ApiError:
    return ApiError("invalid_body", f"The message is not valid msgpack: {reason}.")


class _Reader:
    """A place in one message."""

    def __init__(self, body: bytes) -> None:
        self.at = 0
        self._body = body
        self._size = len(body)
        self._view = memoryview(body)
        self._left = MAX_THINGS

    def value(self, depth: int) -> Any:
        """The next value, whatever it is."""
        self._left -= 1
        if self._left < 0:
            raise _broken(_TOO_MANY)
        tag = self._body[self.at]
        self.at += 1
        if tag < 0x80:
            return tag
        if 0xA0 <= tag < 0xC0:
            return self._text(tag & 0x1F)
        if tag < 0x90:
            return self._map(tag & 0x0F, depth)
        if tag < 0xA0:
            return self._list(tag & 0x0F, depth)
        if tag >= 0xE0:
            return tag - 0x100
        return self._tagged(tag, depth)

    def _tagged(self, tag: int, depth: int) -> Any:
        if tag in _BIN:
            return self._take(self._number(_BIN[tag]))
        if tag in _STR:
            return self._text(self._number(_STR[tag]))
        if tag in _PLAIN:
            return _PLAIN[tag]
        if tag == 0xCB:
            return _FLOAT64(self._take(8))[0]
        if tag == 0xCA:
            return _FLOAT32(self._take(4))[0]
        if tag in _UNSIGNED:
            return self._number(_UNSIGNED[tag])
        if tag in _SIGNED:
            return int.from_bytes(self._take(_SIGNED[tag]), "big", signed=True)
        if tag in _ARRAY:
            return self._list(self._number(_ARRAY[tag]), depth)
        if tag in _MAP:
            return self._map(self._number(_MAP[tag]), depth)
        raise _broken("it holds an extension type, which is not taken")

    def _take(self, size: int) -> memoryview:
        begins, self.at = self.at, self.at + size
        if self.at > self._size:
            raise _broken("it ends in the middle")
        return self._view[begins : self.at]

    def _number(self, size: int) -> int:
        if size == 1:
            self.at += 1
            return self._body[self.at - 1]
        return int.from_bytes(self._take(size), "big")

    def _text(self, size: int) -> str:
        return str(self._take(size), "utf-8")

    def _list(self, count: int, depth: int) -> list[Any]:
        self._descend(count, depth)
        return [self.value(depth - 1) for _ in range(count)]

    def _map(self, count: int, depth: int) -> Any:
        self._descend(count, depth)
        found: dict[str, Any] = {}
        for _ in range(count):
            name = self._key()
            if name in found:
                raise _broken(f"the key '{name[:128]}' appears twice")
            found[name] = self.value(depth - 1)
        if "__ndarray__" in found:
            return _array(found)
        return _scalar(found) if "__npgeneric__" in found else found

    def _key(self) -> str:
        """Text, or its bytes. Such lengths as keys have are read here: that halves the time of a frame."""
        begins, tag = self.at + 1, self._body[self.at]
        if 0xA0 <= tag < 0xC0:
            size = tag & 0x1F
        elif tag == 0xC4 or tag == 0xD9:  # a set would be asked for a hash
            begins, size = begins + 1, self._body[begins]
        else:
            return self._odd_key()
        self._left -= 1
        ends = self.at = begins + size
        if self._left < 0 or ends > self._size:
            raise _broken("it ends in the middle" if ends > self._size else _TOO_MANY)
        return str(self._body[begins:ends], "utf-8")

    def _odd_key(self) -> str:
        name = self.value(0)
        if isinstance(name, memoryview):
            return str(name, "utf-8")
        if not isinstance(name, str):
            raise _broken("a key is not text")
        return name

    def _descend(self, count: int, depth: int) -> None:
        if depth <= 0:
            raise _broken(f"it is nested more than {MAX_DEPTH} deep")
        if count > self._left:
            raise _broken(_TOO_MANY)


def _array(found: dict[str, Any]) -> np.ndarray[Any, Any]:
    if found.keys() != {"__ndarray__", "data", "dtype", "shape"} or found["__ndarray__"] is not True:
        raise _broken("an array has other fields than __ndarray__, data, dtype and shape")
    data, dtype, shape = found["data"], _dtype(found["dtype"]), found["shape"]
    if not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS or not all(n.__class__ is int and n >= 0 for n in shape):
        raise _broken("an array's shape is not a short list of counts")
    if not isinstance(data, memoryview) or math.prod(shape) * dtype.itemsize != len(data):
        raise _broken(f"an array's data are not the bytes of {shape} {dtype}")
    return np.frombuffer(data, dtype).reshape(shape) if len(data) else np.empty(shape, dtype)


def array_of(data: bytes, dtype: str, shape: list[int], *, param: str) -> np.ndarray[Any, Any]:
    """The array of another wire that says the same three things. Raises invalid_image naming `param`."""
    try:
        return _array({"__ndarray__": True, "data": memoryview(data), "dtype": dtype, "shape": shape})
    except ApiError as fault:
        raise ApiError("invalid_image", f"{param}: {fault.message.rpartition(': ')[2]}", param=param) from None


def _scalar(found: dict[str, Any]) -> np.generic:
    if found.keys() != {"__npgeneric__", "data", "dtype"} or found["__npgeneric__"] is not True:
        raise _broken("a scalar has other fields than __npgeneric__, data and dtype")
    data, dtype = found["data"], _dtype(found["dtype"])
    if isinstance(data, memoryview):
        data = bytes(data)
    wanted = {"b": bool, "i": int, "u": int, "f": float, "U": str, "S": bytes}[dtype.kind]
    if type(data) is not wanted:
        raise _broken(f"a scalar's data are not a {dtype}")
    try:
        scalar: np.generic = dtype.type(data)
    except OverflowError:
        raise _broken(f"a scalar does not fit {dtype}") from None
    return scalar


def _dtype(name: object) -> np.dtype[Any]:
    found = _NUMBERS.get(name) if isinstance(name, str) else None
    if found is not None:
        return found
    if isinstance(name, str) and name[:2] in {"<U", ">U", "|S"} and name[2:].isdecimal() and name.isascii() and len(name) <= 6:
        dtype = np.dtype(name)
        if dtype.itemsize <= _MAX_TEXT:
            return dtype
    raise _broken("an array is of a dtype that is not taken; send bool, int, uint, float up to 64 bits, or short text")


def _plain(value: Any) -> Any:
    """What msgspec cannot write by itself, as openpi's codec writes it."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufSU":
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic) and value.dtype.kind in "biufSU":
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be sent")


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_plain)
