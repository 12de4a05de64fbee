"""HTTP/2's header blocks (RFC 7541) as gRPC uses them: the request's, which never varies but for its time-out, and the answer's.

`hpack` does the reading. A block means the same until the peer's table changes, which soon it no longer does: then one that was
seen before is not read again. Knows no stream.
"""

from collections.abc import Mapping
from urllib.parse import unquote

from hpack import Decoder, Encoder, HPACKError, NeverIndexedHeaderTuple

from control_plane.unary_grpc.frames import ProtocolError

Head = Mapping[str, str]

NO_TABLE = (
    b"\x20"  # "my table has no room" (§6.3), to be said once at the beginning: no later limit of the peer's can be below it
)

_REMEMBERED = 64  # there are three or four: the first head, and the last after a success
_LONGEST_BYTES = 65_536
_NEW_NAME = b"\x00"  # a literal that is to be remembered nowhere (§6.2.2)
_MOST_UNITS = 99_999_999  # gRPC's time-out has at most eight digits


def request_head(path: str, authority: str) -> bytes:
    """The block before every request's message, without its time-out. Remembered by no table on the other side."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": authority,
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "vlaapi",
    }
    block: bytes = Encoder().encode([NeverIndexedHeaderTuple(*header) for header in headers.items()], huffman=False)
    return block


def timeout_head(timeout_s: float) -> bytes:
    """The `grpc-timeout` header, to be added to a request's block."""
    us = max(1, int(timeout_s * 1e6))
    value = b"%du" % us if us <= _MOST_UNITS else b"%dS" % min(us // 1_000_000, _MOST_UNITS)
    return b"%b\x0cgrpc-timeout%c%b" % (_NEW_NAME, len(value), value)


class Heads:
    """Reads the heads of one connection's answers."""

    def __init__(self) -> None:
        self._decoder = Decoder(max_header_list_size=_LONGEST_BYTES)
        self._known: dict[bytes, Head] = {}  # those that left the table as it is, and that no change of it has outdated

    def read(self, block: bytes) -> Head:
        """Names in lower case and their values. Raises ProtocolError."""
        known = self._known.get(block)
        if known is not None:
            return known
        before = self._table()
        try:
            head = {str(name): str(value) for name, value in self._decoder.decode(block)}
        except (HPACKError, UnicodeDecodeError) as error:
            raise ProtocolError(f"a header block that cannot be read: {error}") from None
        if self._table() != before:
            self._known.clear()
        elif len(self._known) < _REMEMBERED and "grpc-message" not in head:
            self._known[block] = head
        return head

    def _table(self) -> tuple[object, ...]:
        table = self._decoder.header_table
        return table.maxsize, *table.dynamic_entries


def message_of(head: Head) -> str:
    """The text beside a status; gRPC writes what is not plain ASCII as %XX."""
    return unquote(head.get("grpc-message", ""), errors="replace")
