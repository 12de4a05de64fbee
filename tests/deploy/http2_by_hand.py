"""One HTTP/2 request as bytes, for no client here speaks it: enough of RFC 9113 and RFC 7541 to ask and to read the status."""

import ssl
import struct

_HEADERS, _SETTINGS = 0x1, 0x4
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_INDEXED_STATUS = {0x88: 200, 0x8D: 404, 0x8C: 400, 0x8E: 500}  # RFC 7541, appendix A


def get(line: ssl.SSLSocket, path: str, *, authority: str) -> int:
    """The status of a GET on stream 1."""
    head = b"\x82\x87" + _literal(4, path) + _literal(1, authority)  # :method GET, :scheme https, :path, :authority
    line.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, b""))
    line.sendall(_frame(_HEADERS, _END_STREAM | _END_HEADERS, 1, head))
    while True:
        size, kind, flags, stream = _frame_head(_exactly(line, 9))
        payload = _exactly(line, size)
        if kind == _SETTINGS and not flags & _ACK:
            line.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        if kind == _HEADERS and stream == 1:
            return _status(payload)


def _status(block: bytes) -> int:
    """The first field of an answer is its status: by its number, or as a literal of three digits."""
    return _INDEXED_STATUS.get(block[0]) or int(block[2:5])


def _literal(name_index: int, value: str) -> bytes:
    data = value.encode()
    return bytes([name_index, len(data)]) + data


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _frame_head(head: bytes) -> tuple[int, int, int, int]:
    size, kind, flags, stream = struct.unpack(">I", b"\0" + head[:3])[0], head[3], head[4], struct.unpack(">I", head[5:])[0]
    return size, kind, flags, stream


def _exactly(line: ssl.SSLSocket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = line.recv(size - len(found))
        if not piece:
            raise ConnectionError("the line was closed")
        found += piece
    return found
