"""HTTP/2's frames (RFC 9113 §4, §6): bytes of those that a client sends, and what came, cut into frames.

Knows no stream and no gRPC. A peer's frame is never longer than what we allow it, 16,384 bytes, which is the protocol's default.
"""

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
OUR_MAX_FRAME_BYTES = 16_384
CONNECTION = 0  # the stream that is the connection itself
LARGEST_WINDOW = 2**31 - 1
FRAME_BYTES = range(16_384, 2**24)  # what a peer may allow us (§6.5.2)
FIRST_WINDOW = 65_535  # of the connection always, of a stream until the peer's settings say another


class ProtocolError(Exception):
    """The peer broke the protocol; the connection is of no more use."""


class Kind(IntEnum):
    """Frame types (§6). Others are to be ignored."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag(IntEnum):
    """Flags of the frames we read and write. 1 is ACK on SETTINGS and PING. No IntFlag: it makes an object of every `&`."""

    END_STREAM = 0x1
    ACK = 0x1
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY = 0x20


class Setting(IntEnum):
    """Settings (§6.5.2) that matter to us."""

    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5


_ANY = range(2**32)
_ALLOWED: Mapping[int, range] = {Setting.MAX_FRAME_SIZE: FRAME_BYTES, Setting.INITIAL_WINDOW_SIZE: range(LARGEST_WINDOW + 1)}


class Reset(IntEnum):
    """Error codes (§7) that we send or tell apart."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    REFUSED_STREAM = 7
    CANCEL = 8


class Frame(NamedTuple):
    """One frame as it came. `kind` may be one that we do not know."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame_head(kind: int, flags: int, stream: int, length: int) -> bytes:
    """The nine bytes before a payload."""
    return (length << 16 | kind << 8 | flags).to_bytes(5, "big") + stream.to_bytes(4, "big")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A whole one."""
    return frame_head(kind, flags, stream, len(payload)) + payload


def settings(values: dict[Setting, int]) -> bytes:
    """A SETTINGS frame."""
    payload = b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in values.items())
    return frame(Kind.SETTINGS, 0, CONNECTION, payload)


def window_update(stream: int, more: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(Kind.WINDOW_UPDATE, 0, stream, more.to_bytes(4, "big"))


def reset(stream: int, code: Reset) -> bytes:
    """A RST_STREAM frame."""
    return frame(Kind.RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def read_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """The pairs of a SETTINGS frame. Raises ProtocolError."""
    if len(payload) % 6:
        raise ProtocolError("a SETTINGS frame of odd length")
    for at in range(0, len(payload), 6):
        name, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
        if value not in _ALLOWED.get(name, _ANY):
            raise ProtocolError(f"a setting {name} of {value}")
        yield name, value


def read_number(payload: bytes) -> int:
    """The 31-bit number of a WINDOW_UPDATE, or the first of a GOAWAY. Raises ProtocolError."""
    if len(payload) < 4:
        raise ProtocolError("a frame too short for its number")
    return int.from_bytes(payload[:4], "big") & LARGEST_WINDOW


def unpadded(one: Frame) -> bytes:
    """The content of a DATA or HEADERS frame, without padding and priority. Raises ProtocolError."""
    content, padding = one.payload, 0
    if one.flags & Flag.PADDED:
        if not content:
            raise ProtocolError("padding is announced and not there")
        padding, content = content[0], content[1:]
    if one.kind == Kind.HEADERS and one.flags & Flag.PRIORITY:
        content = content[5:]
    if padding > len(content):
        raise ProtocolError("more padding than frame")
    return content[: len(content) - padding] if padding else content


class Cutter:
    """Cuts what arrives into frames; holds back the beginning of one that is not whole yet."""

    def __init__(self) -> None:
        self._held = b""

    def cut(self, data: bytes) -> list[Frame]:
        """The frames that are whole now. Raises ProtocolError at one that is longer than we allow."""
        held = self._held + data if self._held else data
        frames: list[Frame] = []
        at, size = 0, len(held)
        while size - at >= HEAD_BYTES:
            length = int.from_bytes(held[at : at + 3], "big")
            if length > OUR_MAX_FRAME_BYTES:
                raise ProtocolError(f"a frame of {length} bytes")
            begins = at + HEAD_BYTES
            if size < begins + length:
                break
            stream = int.from_bytes(held[at + 5 : begins], "big") & LARGEST_WINDOW
            frames.append(Frame(held[at + 3], held[at + 4], stream, held[begins : begins + length]))
            at = begins + length
        self._held = held[at:]
        return frames
