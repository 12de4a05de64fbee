"""uvicorn's WebSocket protocol with a short way for what robots send: a binary message in one frame.

websockets copies such a message three times before anybody reads it: into its buffer, out of it, and without its mask. With the
three places that it is in before, a raw picture fills a processor's second cache, and everything else is fetched anew. Here it
is copied once, by taking its mask off. Every other frame, and every mistake, goes to the library as it came. Knows no door and
no message's meaning. `--ws` of uvicorn names it.
"""

from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import OPEN

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover -- as websockets does where its C code was not built
    from websockets.utils import apply_mask

_PLAIN: Final = 0x82  # RFC 6455 §5.2: final, nothing reserved, binary
_MASKED, _MASK_BYTES = 0x80, 4
_LONGEST_HEAD = 14
_LENGTH_BYTES = {126: 2, 127: 8}  # by what stands in the place of a short length


class PlainFrames(WebSocketsSansIOProtocol):
    """Follows where frames begin: the library, which gets all of the others, is never inside one when a plain one comes."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._has_request = False
        self._parts: list[bytes] = []  # of a plain frame that is not whole
        self._missing = 0  # bytes before there is more to say about those
        self._head = b""  # of one of the library's, already given to it, while it does not tell how long the frame is
        self._passing = 0  # bytes that are still to come of one of the library's

    def data_received(self, data: bytes) -> None:
        """uvicorn hands over the whole request first."""
        if not self._has_request:
            self._has_request = True
            super().data_received(data)
            return
        if self._parts:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        at = 0
        while at < len(data):
            at = self._take(data, at)

    def _take(self, data: bytes, at: int) -> int:
        """One frame, or what there is of it. Returns where the next one begins."""
        left = len(data) - at
        if self._passing:
            return self._pass(data, at, min(self._passing, left))
        if self._head or data[at] != _PLAIN:
            return self._measure(data, at)
        if left < 2:
            return self._hold(data, at, 1)
        if not data[at + 1] & _MASKED:
            return self._measure(data, at)
        head, size = _measured(data, at)
        if left < head - _MASK_BYTES:
            return self._hold(data, at, head - left)
        if size > self.config.ws_max_size:
            return self._measure(data, at)
        if left < head + size:
            return self._hold(data, at, head + size - left)
        ends = at + head + size
        if self.conn.state is not OPEN or self.conn.current_size is not None:  # too late, or in the middle of another message
            super().data_received(data[at:ends])
            return ends
        self.curr_msg_data_type = "bytes"
        self.frames = [apply_mask(memoryview(data)[at + head : ends], data[at + head - _MASK_BYTES : at + head])]
        self.send_receive_event_to_app()
        return ends

    def _measure(self, data: bytes, at: int) -> int:
        """One of the library's begins here, or did before."""
        known = self._head + data[at : at + _LONGEST_HEAD - len(self._head)]
        head, size = _measured(known, 0)
        if len(known) < head:
            self._head = known
            return self._pass(data, at, len(data) - at)
        self._passing, self._head = head + size - len(self._head), b""
        return at

    def _pass(self, data: bytes, at: int, size: int) -> int:
        self._passing = max(0, self._passing - size)
        super().data_received(data[at : at + size])
        return at + size

    def _hold(self, data: bytes, at: int, missing: int) -> int:
        self._parts.append(data[at:])
        self._missing = missing
        return len(data)


def _measured(data: bytes, at: int) -> tuple[int, int]:
    """Bytes of the head, and behind it. The second means nothing before the first has come but for the mask."""
    if len(data) < at + 2:
        return 2, 0
    length = data[at + 1] & ~_MASKED
    more = _LENGTH_BYTES.get(length, 0)
    head = 2 + more + (_MASK_BYTES if data[at + 1] & _MASKED else 0)
    return head, int.from_bytes(data[at + 2 : at + 2 + more]) if more else length
