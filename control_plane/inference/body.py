"""Reads a request body: never more than the limit, never longer than the time limit, never compressed.

Called by the HTTP doors before anything is parsed. Knows ASGI messages, no content type.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import Receive

from control_plane.errors import ApiError

# What follows on this connection is the rest of a body nobody will read.
_HANG_UP = {"Connection": "close"}


class ClientGone(Exception):  # noqa: N818 -- reads as what happened
    """The caller hung up; there is nobody to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    """How much, and how long it may take to arrive."""

    max_bytes: int
    timeout_s: float


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], limits: BodyLimits) -> bytes:
    """The whole body. Raises body_too_large, body_timeout, unsupported_media_type, ClientGone."""
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise ApiError("unsupported_media_type", "Send the body without Content-Encoding.", headers=_HANG_UP)
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared[:20]) > limits.max_bytes:
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.timeout_s):
            return await _read(receive, limits)
    except TimeoutError:
        message = f"The body did not arrive within {limits.timeout_s:g} s."
        raise ApiError("body_timeout", message, headers=_HANG_UP) from None


async def _read(receive: Receive, limits: BodyLimits) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limits.max_bytes:
            raise _too_large(limits)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limits: BodyLimits) -> ApiError:
    return ApiError("body_too_large", f"The body is larger than {limits.max_bytes} bytes.", headers=_HANG_UP)
