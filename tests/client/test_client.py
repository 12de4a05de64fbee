"""Both clients against servers that are silent, slow, rude or gone: always a typed error, always within the deadline."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.client.making import FRAME, server, told
from vlaapi_client import AsyncClient, Client, ConnectionLost, DeadlineExceeded, ServiceFault, Unavailable, VlaError

KEY = "vla_live_a-key"
OK = json.dumps(told()).encode()
Serve = Callable[[socket.socket], None]


def response(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def request_of(connection: socket.socket) -> bytes:
    """Reads one request, body and all."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    (length,) = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")] or [0]
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def silent(connection: socket.socket) -> None:
    request_of(connection)
    connection.recv(1)


def dripping(connection: socket.socket) -> None:
    request_of(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.02)


def closing(connection: socket.socket) -> None:
    request_of(connection)


def half(connection: socket.socket) -> None:
    request_of(connection)
    connection.sendall(response(OK)[:-10])


def rude(connection: socket.socket) -> None:
    request_of(connection)
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


def broken_encoding(connection: socket.socket) -> None:
    request_of(connection)
    connection.sendall(response(b"not gzip", headers="Content-Encoding: gzip\r\n"))


def endless(connection: socket.socket) -> None:
    request_of(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n")
    while True:
        connection.sendall(b" " * 1_000_000)


def garbage(connection: socket.socket) -> None:
    request_of(connection)
    connection.sendall(response(b"<html>It works!</html>"))


def ask(url: str, **options: Any) -> Any:
    with Client(url, KEY, **options) as client:
        return client.infer(FRAME, "go")


def ask_async(url: str, **options: Any) -> Any:
    async def once() -> Any:
        async with AsyncClient(url, KEY, **options) as client:
            return await client.infer(FRAME, "go")

    box: list[Any] = []

    def outside() -> None:  # pytest's own loop is running in this thread
        try:
            box.append(asyncio.run(once()))
        except VlaError as error:
            box.append(error)

    thread = threading.Thread(target=outside)
    thread.start()
    thread.join()
    if isinstance(box[0], VlaError):
        raise box[0]
    return box[0]


both = pytest.mark.parametrize("ask", [ask, ask_async])


@both
@pytest.mark.parametrize("serve", [silent, dripping])
def test_a_server_that_does_not_come_to_an_end_is_given_up_at_the_deadline(ask: Callable[..., Any], serve: Serve) -> None:
    with server(serve) as url, pytest.raises(DeadlineExceeded) as late:
        ask(url, deadline_ms=300)
    assert late.value.status is None
    assert "300 ms" in str(late.value)


@both
@pytest.mark.parametrize("serve", [closing, half, rude, broken_encoding])
def test_a_connection_that_breaks_is_a_lost_connection_after_its_attempts(ask: Callable[..., Any], serve: Serve) -> None:
    seen: list[bytes] = []

    def counted(connection: socket.socket) -> None:
        seen.append(b"")
        serve(connection)

    with server(counted) as url, pytest.raises(ConnectionLost):
        ask(url, deadline_ms=5000)
    assert len(seen) == 3


@both
def test_nobody_listening_is_a_lost_connection(ask: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConnectionLost):
        ask(f"http://127.0.0.1:{port}", deadline_ms=1000)
    with pytest.raises(ConnectionLost):
        ask("http://no-such-host.invalid", deadline_ms=1000, attempts=1)


@both
def test_an_answer_without_end_is_not_read_to_its_end(ask: Callable[..., Any]) -> None:
    with server(endless) as url, pytest.raises((ConnectionLost, DeadlineExceeded)):
        ask(url, deadline_ms=20_000, attempts=1)


@both
def test_a_200_that_is_no_answer_is_a_fault(ask: Callable[..., Any]) -> None:
    with server(garbage) as url, pytest.raises(ServiceFault):
        ask(url)


@both
def test_a_repetition_is_the_same_bytes_and_the_same_key_on_the_same_connection(ask: Callable[..., Any]) -> None:
    seen: list[bytes] = []
    connections: list[int] = []
    full = {"code": "overloaded", "type": "unavailable", "message": "full", "is_retryable": True, "retry_after_ms": 10}
    refusal = json.dumps({"error": {**full, "robot_action": "hold"}}).encode()

    def serve(connection: socket.socket) -> None:
        connections.append(1)
        while request := request_of(connection):
            seen.append(request)
            connection.sendall(response(refusal, status="503 x") if len(seen) == 1 else response(OK))

    with server(serve) as url:
        assert ask(url, deadline_ms=20_000).action.horizon == 8
    assert len(connections) == 1
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert b"Idempotency-Key: " in seen[0] or b"idempotency-key: " in seen[0].lower()


@both
def test_one_attempt_does_not_repeat(ask: Callable[..., Any]) -> None:
    seen: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        seen.append(request_of(connection))
        connection.sendall(response(b"", status="503 x", headers="Retry-After: 1\r\n"))

    with server(serve) as url, pytest.raises(Unavailable) as away:
        ask(url, attempts=1)
    assert away.value.retry_after_s == 1.0
    assert len(seen) == 1
    assert b"idempotency-key" not in seen[0].lower()


async def test_a_cancelled_call_hangs_up() -> None:
    gone = threading.Event()

    def serve(connection: socket.socket) -> None:
        request_of(connection)
        if connection.recv(1) == b"":
            gone.set()

    with server(serve) as url:
        async with AsyncClient(url, KEY, deadline_ms=60_000) as client:
            task = asyncio.create_task(client.infer(FRAME, "go"))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(gone.wait, 20)


@pytest.mark.parametrize("url", ["vla.example.com", "ftp://x", "http://", "https://x/?a=b", ""])
def test_an_address_that_is_none_is_said_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Client(url, KEY)


@pytest.mark.parametrize("key", ["", "a b", "vla_live_ü", "a\r\nX: y"])
def test_a_key_that_cannot_be_one_is_said_at_once_and_not_repeated(key: str) -> None:
    with pytest.raises(ValueError, match="characters that no key has") as wrong:
        AsyncClient("https://x", key)
    assert not key or key not in str(wrong.value)
