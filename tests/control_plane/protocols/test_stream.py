"""`WS /v1/stream`: REST bodies with an id, in both forms, pipelined."""

import base64
import json
from typing import Any

import msgspec
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.control_plane.fakes import STILL, FakeTriton, House, picture
from tests.control_plane.protocols.serving import opened, served
from tests.control_plane.protocols.test_sockets import gated

PATH = "/v1/stream"
REQUEST: dict[str, Any] = {"image": base64.b64encode(picture()).decode(), "instruction": "pick up red cube"}
BINARY: dict[str, Any] = {**REQUEST, "image": picture()}


def text(id_: object, **changes: Any) -> str:
    return json.dumps({"id": id_, "request": {**REQUEST, **changes}})


def binary(id_: object, **changes: Any) -> bytes:
    return msgspec.msgpack.encode({"id": id_, "request": {**BINARY, **changes}})


def read(message: bytes | str) -> Any:
    return json.loads(message) if isinstance(message, str) else msgspec.msgpack.decode(message)


async def test_an_answer_is_that_of_rest_with_the_id_and_comes_as_its_request_came() -> None:
    house = House(triton=FakeTriton(action=STILL + np.float32(0.001)))
    async with house.client() as client:
        rest = (await client.post("/v1/inference", json=REQUEST)).json()
    async with served(house.app()) as address, opened(address, PATH) as socket:
        for message, kind in ((text("a-1"), str), (binary("a-1"), bytes)):
            await socket.send(message)
            reply = await socket.recv()
            assert isinstance(reply, kind)
            told = read(reply)
            assert told["id"] == "a-1"
            assert set(told["answer"]) == set(rest)
            assert told["answer"]["action"] == rest["action"]
    assert len({event.request_id for event in house.journal.events}) == 3


async def test_the_first_message_says_what_is_served() -> None:

    async with served(House().app()) as address:
        url = f"ws://{address}{PATH}"
        async with connect(url, additional_headers={"Authorization": "Bearer a-key-that-the-fake-knows"}) as socket:
            told = json.loads(await socket.recv())["metadata"]
    assert (told["server"], told["model"], told["models"], told["max_message_bytes"]) == (
        "vlaapi",
        "tabletop",
        ["tabletop"],
        1_000_000,
    )
    assert told["action"]["horizon"] == 8


async def test_each_session_is_a_lane_of_its_own() -> None:
    house, gate = gated()
    async with served(house.app()) as address, opened(address, PATH) as socket:
        await socket.send(text(1, session_id="left", seq=1))
        await socket.send(text(2, session_id="right", seq=1))
        await gate.holds(2)
        await socket.send(text(3, session_id="left", seq=2))
        await socket.send(binary(4, session_id="left", seq=3))
        told = read(await socket.recv())
        gate.let_go(3)
        replies = [read(await socket.recv()) for _ in range(3)]
    assert (told["id"], told["error"]["code"]) == (3, "superseded")
    assert sorted(reply["id"] for reply in replies) == [1, 2, 4]
    assert all("answer" in reply for reply in replies)


@pytest.mark.parametrize("write", [text, binary])
async def test_what_is_wrong_says_whose_it_is(write: Any) -> None:
    found = []
    async with served(House().app()) as address, opened(address, PATH) as socket:
        for message in (write(7, state=["x"]), write(8, speed=1), write([9]), write(2**60), write("")):
            await socket.send(message)
            told = read(await socket.recv())
            found.append((told["id"], told.get("error", {}).get("code"), told.get("error", {}).get("param")))
    assert found == [
        (7, "invalid_state", "state[0]"),
        (8, "unknown_field", "speed"),
        (None, "invalid_field", "id"),
        (None, "invalid_field", "id"),
        ("", None, None),
    ]


async def test_what_is_no_envelope_is_refused_and_the_socket_lives_on() -> None:
    async with served(House().app()) as address, opened(address, PATH) as socket:
        for message in (
            "",
            "{",
            "[]",
            b"",
            b"\xc1",
            b"\x90",
            '{"id": 1}',
            '{"id": 1, "request": [1]}',
            '{"id": 1, "x": 2, "request": {}}',
        ):
            await socket.send(message)
            assert read(await socket.recv())["error"]["type"] == "invalid_request"
        await socket.send(text(1))
        assert "answer" in read(await socket.recv())


async def test_sessions_in_turn_cannot_keep_a_process_that_is_being_replaced() -> None:
    house, gate = gated()
    async with served(house.app()) as address, opened(address, PATH) as socket:
        await socket.send(text(1, session_id="left", seq=1))
        await gate.holds()
        house.drain.begin()
        await socket.send(text(2, session_id="right", seq=1))
        refusal = read(await socket.recv())
        gate.let_go()
        motion = read(await socket.recv())
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert (refusal["id"], refusal["error"]["code"]) == (2, "overloaded")
    assert (motion["id"], "answer" in motion) == (1, True)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
