"""The socket client against the real service and against sockets that break."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import msgpack
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from benchmarks.stack import Stack
from tests.client.making import FRAME, told
from vlaapi_client import (
    ChunkBroker,
    Client,
    ConnectionLost,
    DeadlineExceeded,
    Due,
    InvalidRequest,
    NotAllowed,
    Plan,
    Refused,
    ServiceFault,
    Superseded,
    VlaError,
)
from vlaapi_client.stream import Stream

KEY, INSTRUCTION = "vla_live_a-key", "pick up red cube"


@pytest.fixture(scope="module")
def frame(stack: Stack) -> NDArray[np.uint8]:
    """What the camera sees."""
    return np.asarray(Image.open(stack.example).convert("RGB"))


@contextmanager
def sockets(handle: Callable[[ServerConnection], None]) -> Iterator[str]:
    """A WebSocket server that says hello and leaves the rest to `handle`."""

    def greeted(connection: ServerConnection) -> None:
        connection.send(json.dumps({"metadata": {"model": "tabletop"}}))
        try:
            handle(connection)
        except ConnectionClosed:
            return

    with serve(greeted, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


def replying(reply: Callable[[dict[str, Any]], Any]) -> Callable[[ServerConnection], None]:
    """Answers each frame with what `reply` makes of it."""

    def handle(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(reply(msgpack.unpackb(message)))

    return handle


def test_it_answers_as_the_other_client_does(stack: Stack, url: str, frame: NDArray[np.uint8]) -> None:
    with Stream(url, stack.key, deadline_ms=30_000) as stream, Client(url, stack.key, deadline_ms=30_000) as client:
        assert stream.warm()["model"] == "tabletop"
        ours = stream.infer(frame, INSTRUCTION, session_id="s", seq=4, state=None)
        theirs = client.infer(frame, INSTRUCTION)
        named = stream.infer({"front": frame}, INSTRUCTION)
    assert (ours.action.chunk == theirs.action.chunk).all()
    assert (ours.action.chunk == named.action.chunk).all()
    assert (ours.session_id, ours.seq) == ("s", 4)
    assert ours.request_id.startswith("inf_")
    assert 0 < ours.timings.total_ms <= ours.timings.round_trip_ms


def test_its_errors_are_those_of_the_other_client(stack: Stack, url: str, frame: NDArray[np.uint8]) -> None:
    with Stream(url, stack.key, deadline_ms=30_000) as stream:
        with pytest.raises(InvalidRequest) as wrong:
            stream.infer(frame, INSTRUCTION, state=[0.0])
        assert (wrong.value.code, wrong.value.param) == ("invalid_state", "state")
        with pytest.raises(Refused) as refused:
            stream.infer(frame, INSTRUCTION, safety={"required_rules": ["D2"]})
        assert refused.value.fallback is not None
        assert stream.infer(frame, INSTRUCTION).action.horizon == 8  # the socket lives on
    with Stream(url, "vla_live_wrong") as stranger, pytest.raises(NotAllowed) as stop:
        stranger.warm()
    assert stop.value.code == "malformed_key"


def test_in_a_session_the_newest_frame_wins_and_the_others_are_told(stack: Stack, url: str, frame: NDArray[np.uint8]) -> None:
    large = np.asarray(Image.fromarray(frame).resize((1280, 960)))

    def ask(stream: Stream, seq: int) -> Any:
        try:
            return stream.infer(large, INSTRUCTION, session_id="one", seq=seq)
        except VlaError as error:
            return error

    with Stream(url, stack.key, deadline_ms=60_000, jpeg_quality=30) as stream, ThreadPoolExecutor(12) as pool:
        stream.warm()
        found = []
        for round_ in range(10):
            found += list(pool.map(lambda n, first=round_ * 12: ask(stream, first + n), range(12)))
            if any(isinstance(one, Superseded) for one in found):
                break
    kinds = {type(one).__name__ for one in found}
    assert "Superseded" in kinds
    assert "Answer" in kinds
    assert kinds <= {
        "Superseded",
        "Answer",
        "InvalidRequest",
    }  # 12 threads send out of order: an old seq after a newer one is refused


def test_the_broker_goes_over_a_socket_too(stack: Stack, url: str, frame: NDArray[np.uint8]) -> None:
    moves = 0
    with Stream(url, stack.key, deadline_ms=30_000) as stream, ChunkBroker(stream, INSTRUCTION, Plan(max_age_s=60.0)) as broker:
        for _ in range(2000):
            step = broker.step(frame)
            assert step.error is None
            moves += step.due is Due.MOVE
            if moves == 12:
                break
            time.sleep(0.02)
    assert moves == 12


def test_a_silent_service_is_given_up_at_the_deadline_and_the_socket_lives_on() -> None:
    def late(message: dict[str, Any]) -> bytes:
        if message["id"] == 0:
            time.sleep(0.5)
        packed: bytes = msgpack.packb({"id": message["id"], "answer": told()})
        return packed

    with sockets(replying(late)) as url, Stream(url, KEY) as stream:
        with pytest.raises(DeadlineExceeded) as over:
            stream.infer(FRAME, "go", deadline_ms=100)
        assert over.value.status is None
        assert stream.infer(FRAME, "go", deadline_ms=20_000).action.horizon == 8


def test_a_broken_socket_ends_every_wait_and_the_next_call_connects_again() -> None:
    seen: list[int] = []

    def handle(connection: ServerConnection) -> None:
        seen.append(1)
        message = msgpack.unpackb(connection.recv())
        if len(seen) == 1:
            connection.socket.shutdown(socket.SHUT_RDWR)
            return
        connection.send(msgpack.packb({"id": message["id"], "answer": told()}))
        connection.recv()

    with sockets(handle) as url, Stream(url, KEY, deadline_ms=20_000) as stream:
        with pytest.raises(ConnectionLost):
            stream.infer(FRAME, "go")
        assert stream.infer(FRAME, "go").action.horizon == 8
    assert len(seen) == 2


def test_nobody_there_is_asked_less_and_less_often() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Stream(f"http://127.0.0.1:{port}", KEY) as stream:
        with pytest.raises(ConnectionLost) as first:
            stream.infer(FRAME, "go")
        with pytest.raises(ConnectionLost) as second:
            stream.infer(FRAME, "go")
    assert first.value.retry_after_s is None
    assert second.value.retry_after_s is not None
    assert 0 < second.value.retry_after_s <= 0.2


@pytest.mark.parametrize(
    "reply",
    [
        {"answer": told([[0.0] * 6])},
        {"answer": {}},
        {"answer": 7},
        {},
        {"error": "no"},
    ],
)
def test_what_is_no_answer_is_our_fault(reply: dict[str, Any]) -> None:
    handle = replying(lambda message: msgpack.packb({"id": message["id"], **reply}))
    with sockets(handle) as url, Stream(url, KEY) as stream, pytest.raises(ServiceFault):
        stream.infer(FRAME, "go", deadline_ms=20_000)


@pytest.mark.parametrize("garbage", [b"\xc1", "{", b"\x01", "[]"])
def test_a_message_that_cannot_be_read_ends_the_socket(garbage: bytes | str) -> None:
    with sockets(replying(lambda _message: garbage)) as url, Stream(url, KEY) as stream, pytest.raises(ConnectionLost):
        stream.infer(FRAME, "go", deadline_ms=20_000)


def test_closing_ends_who_waits() -> None:
    def silent(connection: ServerConnection) -> None:
        for _ in connection:
            pass

    with sockets(silent) as url, ThreadPoolExecutor(1) as pool:
        stream = Stream(url, KEY, deadline_ms=60_000)
        stream.warm()
        waiting = pool.submit(stream.infer, FRAME, "go")
        time.sleep(0.2)
        stream.close()
        with pytest.raises(ConnectionLost):
            waiting.result(timeout=20)
