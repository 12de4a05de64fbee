"""The socket client for asyncio, against the real service and against sockets that break."""

import asyncio
import socket
import time
from typing import Any

import msgpack
import numpy as np
import pytest
from PIL import Image
from websockets.sync.server import ServerConnection

from benchmarks.stack import Stack
from tests.client.making import FRAME, told
from tests.client.test_stream import INSTRUCTION, KEY, replying, sockets
from vlaapi_client import AsyncClient, ConnectionLost, DeadlineExceeded, InvalidRequest, NotAllowed, ServiceFault
from vlaapi_client.async_stream import AsyncStream


async def test_it_answers_as_the_other_client_does_many_at_once(stack: Stack, url: str) -> None:
    frame = np.asarray(Image.open(stack.example).convert("RGB"))
    async with (
        AsyncStream(url, stack.key, deadline_ms=30_000) as stream,
        AsyncClient(url, stack.key, deadline_ms=30_000) as client,
    ):
        assert (await stream.warm())["model"] == "tabletop"
        theirs = await client.infer(frame, INSTRUCTION)
        ours = await asyncio.gather(*(stream.infer(frame, INSTRUCTION, session_id=f"s{n}", seq=n) for n in range(8)))
        assert all((one.action.chunk == theirs.action.chunk).all() for one in ours)
        assert [(one.session_id, one.seq) for one in ours] == [(f"s{n}", n) for n in range(8)]
        with pytest.raises(InvalidRequest) as wrong:
            await stream.infer(frame, INSTRUCTION, state=[0.0])
        assert (wrong.value.code, wrong.value.param) == ("invalid_state", "state")
        assert (await stream.infer(frame, INSTRUCTION)).action.horizon == 8  # the socket lives on
    async with AsyncStream(url, "vla_live_wrong") as stranger:
        with pytest.raises(NotAllowed) as stop:
            await stranger.warm()
    assert stop.value.code == "malformed_key"


async def test_a_silent_service_is_given_up_at_the_deadline_and_the_socket_lives_on() -> None:
    def late(message: dict[str, Any]) -> bytes:
        if message["id"] == 0:
            time.sleep(0.5)
        packed: bytes = msgpack.packb({"id": message["id"], "answer": told()})
        return packed

    with sockets(replying(late)) as url:
        async with AsyncStream(url, KEY) as stream:
            with pytest.raises(DeadlineExceeded):
                await stream.infer(FRAME, "go", deadline_ms=100)
            assert (await stream.infer(FRAME, "go", deadline_ms=20_000)).action.horizon == 8


async def test_a_cancelled_call_leaves_the_others() -> None:
    def late(message: dict[str, Any]) -> bytes:
        time.sleep(0.2)
        packed: bytes = msgpack.packb({"id": message["id"], "answer": told()})
        return packed

    with sockets(replying(late)) as url:
        async with AsyncStream(url, KEY, deadline_ms=20_000) as stream:
            await stream.warm()
            first, second = (asyncio.create_task(stream.infer(FRAME, "go")) for _ in range(2))
            await asyncio.sleep(0.05)
            first.cancel()
            assert (await second).action.horizon == 8
            with pytest.raises(asyncio.CancelledError):
                await first


async def test_a_broken_socket_ends_every_wait_and_the_next_call_connects_again() -> None:
    seen: list[int] = []

    def handle(connection: ServerConnection) -> None:
        seen.append(1)
        message = msgpack.unpackb(connection.recv())
        if len(seen) == 1:
            connection.socket.shutdown(socket.SHUT_RDWR)
            return
        connection.send(msgpack.packb({"id": message["id"], "answer": told()}))
        connection.recv()

    with sockets(handle) as url:
        async with AsyncStream(url, KEY, deadline_ms=20_000) as stream:
            with pytest.raises(ConnectionLost):
                await stream.infer(FRAME, "go")
            assert (await stream.infer(FRAME, "go")).action.horizon == 8
    assert len(seen) == 2


async def test_nobody_there_is_asked_less_and_less_often() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with AsyncStream(f"http://127.0.0.1:{port}", KEY) as stream:
        with pytest.raises(ConnectionLost) as first:
            await stream.infer(FRAME, "go")
        with pytest.raises(ConnectionLost) as second:
            await stream.infer(FRAME, "go")
    assert first.value.retry_after_s is None
    assert second.value.retry_after_s is not None


async def test_what_is_no_answer_is_our_fault_and_what_cannot_be_read_ends_the_socket() -> None:
    with sockets(replying(lambda message: msgpack.packb({"id": message["id"], "answer": 7}))) as url:
        async with AsyncStream(url, KEY) as stream:
            with pytest.raises(ServiceFault):
                await stream.infer(FRAME, "go", deadline_ms=20_000)
    with sockets(replying(lambda _message: b"\xc1")) as url:
        async with AsyncStream(url, KEY) as stream:
            with pytest.raises(ConnectionLost):
                await stream.infer(FRAME, "go", deadline_ms=20_000)


async def test_closing_ends_who_waits() -> None:
    def silent(connection: ServerConnection) -> None:
        for _ in connection:
            pass

    with sockets(silent) as url:
        stream = AsyncStream(url, KEY, deadline_ms=60_000)
        await stream.warm()
        waiting = asyncio.create_task(stream.infer(FRAME, "go"))
        await asyncio.sleep(0.1)
        await stream.aclose()
        with pytest.raises(ConnectionLost):
            await waiting
