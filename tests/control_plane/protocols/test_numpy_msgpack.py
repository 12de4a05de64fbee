"""The codec is openpi's own in both directions, and takes nothing that could hurt."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from openpi_client import msgpack_numpy

from control_plane.errors import ApiError
from control_plane.protocols.numpy_msgpack import decode, encode

NUMBERS = st.sampled_from(
    [np.dtype(code) for code in ("?", "i1", "<i2", "<i4", "<i8", "u1", "<u4", "<u8", "<f2", "<f4", "<f8", ">f4")]
)
TEXTS = st.sampled_from([np.dtype("<U7"), np.dtype("S5")])
ARRAYS = hnp.arrays(NUMBERS | TEXTS, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
SCALARS = NUMBERS.flatmap(lambda dtype: hnp.from_dtype(dtype))
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20) | ARRAYS | SCALARS
NAMES = st.text(max_size=12).filter(lambda name: not name.startswith("__n"))
VALUES = st.dictionaries(
    NAMES,
    st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=3) | st.lists(inner, max_size=3), max_leaves=8),
    max_size=5,
)


def is_taken(body: bytes) -> bool:
    """Anything but a value or a refusal fails the test."""
    try:
        decode(body)
    except ApiError:
        return False
    return True


def is_same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        is_float = one.dtype.kind == "f"
        return type(one) is type(other) and one.dtype == other.dtype and np.array_equal(one, other, equal_nan=is_float)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, float) and isinstance(other, float):  # np.float64 is one, which openpi's packer writes as a plain number
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, np.floating) and math.isnan(one):
        return type(one) is type(other) and math.isnan(other)
    return type(one) is type(other) and bool(one == other)


@settings(deadline=None, max_examples=60)
@given(value=VALUES)
def test_what_openpis_client_packs_is_read_as_its_own_codec_reads_it(value: dict[str, Any]) -> None:
    packed = msgpack_numpy.packb(value)
    assert is_same(decode(packed), msgpack_numpy.unpackb(packed))


@settings(deadline=None, max_examples=60)
@given(value=VALUES)
def test_what_is_written_is_what_openpis_client_reads(value: dict[str, Any]) -> None:
    assert is_same(msgpack_numpy.unpackb(encode(value)), msgpack_numpy.unpackb(msgpack_numpy.packb(value)))


@settings(deadline=None, max_examples=60)
@given(body=st.binary(max_size=80))
def test_arbitrary_bytes_are_a_value_or_a_refusal(body: bytes) -> None:
    is_taken(body)


@settings(deadline=None, max_examples=60)
@given(value=VALUES, data=st.data())
def test_a_good_message_with_bytes_changed_is_a_value_or_a_refusal(value: dict[str, Any], data: st.DataObject) -> None:
    body = bytearray(msgpack_numpy.packb(value))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    is_taken(bytes(body))


def array(**changes: Any) -> bytes:
    found = {"__ndarray__": True, "data": b"\0" * 8, "dtype": "<f4", "shape": [2], **changes}
    return msgspec.msgpack.encode({name: value for name, value in found.items() if value is not ...})


@pytest.mark.parametrize(
    "dtype", ["O", "|O", "V8", "<c8", "<c16", "<M8[s]", "<m8", "f4,f4", "<f16", "<U99999", "float32", "", 7, None]
)
def test_no_other_kind_of_number_is_taken(dtype: object) -> None:
    with pytest.raises(ApiError, match="dtype"):
        decode(array(dtype=dtype))


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [3]},
        {"shape": [2**62, 2**62]},
        {"shape": [-2]},
        {"shape": [True, 2]},
        {"shape": "2"},
        {"shape": [1] * 9},
        {"shape": [2.0]},
        {"data": "text"},
        {"data": ...},
        {"__ndarray__": 1},
        {"extra": 1},
    ],
)
def test_an_array_that_is_not_what_it_says_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ApiError):
        decode(array(**changes))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "ends"),
        (b"\xdd\xff\xff\xff\xff", "more than"),
        (b"\xdf\x7f\xff\xff\xff", "more than"),
        (b"\xc6\xff\xff\xff\xff", "ends"),
        (b"\xdb\xff\xff\xff\xff", "ends"),
        (b"\x91" * 9 + b"\x00", "nested"),
        (b"\x90\x90", "follows"),
        (b"\xd6\xff\0\0\0\0", "extension"),
        (b"\xc1", "extension"),
        (b"\x81\x01\x01", "key"),
        (b"\x82\xa1a\x01\xc4\x01a\x02", "twice"),
        (b"\xa1\xff", "UTF-8"),
        (b"\xdc\xff\xff" + b"\x00" * 0xFFFF, "more than"),
        (b"\xdc\x01\x2c" + (b"\x9f" + b"\x00" * 15) * 300, "more than"),
    ],
)
def test_what_would_cost_without_end_is_refused_at_once(body: bytes, reason: str) -> None:
    with pytest.raises(ApiError, match=reason):
        decode(body)


@pytest.mark.parametrize(
    ("data", "dtype"), [(300, "|u1"), (1.5, "<i4"), (True, "<i4"), (1, "<f4"), ("x", "<i4"), (-1, "<u8"), (None, "<f4")]
)
def test_a_scalar_that_is_not_what_it_says_is_refused(data: object, dtype: str) -> None:
    with pytest.raises(ApiError):
        decode(msgspec.msgpack.encode({"__npgeneric__": True, "data": data, "dtype": dtype}))


def test_an_array_of_a_frame_is_not_copied() -> None:
    body = msgpack_numpy.packb({"image": np.arange(48, dtype=np.uint8).reshape(4, 4, 3)})
    image = decode(body)["image"]
    assert image.base is not None
    assert not image.flags.writeable
