"""A body is read whole, or refused while it is still small and soon."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from control_plane.errors import ApiError
from control_plane.inference.body import BodyLimits, ClientGone, read_body

LIMITS = BodyLimits(max_bytes=10, timeout_s=5.0)


def arriving(*chunks: bytes, then: dict[str, Any] | None = None) -> Callable[[], Awaitable[dict[str, Any]]]:
    """An ASGI `receive` that gives these chunks; `then` replaces the end of the body."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append(then or {"type": "http.request"})
    left = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(left)

    return receive


async def refusal(receive: Callable[[], Awaitable[dict[str, Any]]], headers: dict[bytes, bytes], limits: BodyLimits) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await read_body(receive, headers, limits)
    return caught.value


async def test_chunks_are_joined() -> None:
    assert await read_body(arriving(b"0123", b"456", b"789"), {}, LIMITS) == b"0123456789"


async def test_no_body_is_an_empty_one() -> None:
    assert await read_body(arriving(), {}, LIMITS) == b""


async def test_a_body_that_says_it_is_too_large_is_refused_unread() -> None:
    async def never() -> dict[str, Any]:
        pytest.fail("the body was read")

    error = await refusal(never, {b"content-length": b"11"}, LIMITS)
    assert error.kind.code == "body_too_large"
    assert error.headers["Connection"] == "close"


async def test_a_body_without_a_length_is_refused_at_the_limit() -> None:
    error = await refusal(arriving(b"01234", b"567890", b"never looked at"), {}, LIMITS)
    assert error.kind.code == "body_too_large"


@pytest.mark.parametrize("declared", [b"nonsense", b"-5", b"9" * 5000, b""])
async def test_an_odd_content_length_changes_no_bound(declared: bytes) -> None:
    error = await refusal(arriving(b"0" * 11), {b"content-length": declared}, LIMITS)
    assert error.kind.code == "body_too_large"


async def test_a_slow_body_is_refused() -> None:
    async def forever() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    error = await refusal(forever, {}, BodyLimits(max_bytes=10, timeout_s=0.01))
    assert error.kind.code == "body_timeout"
    assert error.headers["Connection"] == "close"


async def test_a_compressed_body_is_refused() -> None:
    error = await refusal(arriving(b"x"), {b"content-encoding": b"gzip"}, LIMITS)
    assert error.kind.code == "unsupported_media_type"


async def test_a_caller_who_hangs_up_midway_is_noticed() -> None:
    with pytest.raises(ClientGone):
        await read_body(arriving(b"012", then={"type": "http.disconnect"}), {}, LIMITS)
