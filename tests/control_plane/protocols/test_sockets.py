"""The newest frame wins, pings are answered while a model runs, and a socket that ends takes its work along."""

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from control_plane.triton import TritonCall
from control_plane.usage.event import UsageStatus
from tests.control_plane.eventually import eventually
from tests.control_plane.fakes import FakeTriton, House
from tests.control_plane.protocols.serving import opened, packed, served, unpacked


class Gate:
    """A Triton whose inferences wait until they are let go, one by one; `running` is how many wait."""

    def __init__(self) -> None:
        self.running = 0
        self._open = asyncio.Semaphore(0)

    async def __call__(self, _call: TritonCall) -> None:
        self.running += 1
        try:
            await self._open.acquire()
        finally:
            self.running -= 1

    def let_go(self, count: int = 1) -> None:
        for _ in range(count):
            self._open.release()

    async def holds(self, count: int = 1) -> None:
        async def is_held() -> bool:
            return self.running == count

        await eventually(is_held)


def gated() -> tuple[House, Gate]:
    gate = Gate()
    return House(triton=FakeTriton(before=gate)), gate


def outcomes(house: House, route: str) -> Counter[str]:
    """How many requests of the route ended how."""
    metric = next(found for found in house.metrics.registry.collect() if found.name == "vla_requests")
    found: Counter[str] = Counter()
    for sample in metric.samples:
        if sample.labels.get("route") == route and sample.name.endswith("_total"):
            found[sample.labels["outcome"]] += int(sample.value)
    return found


async def received(house: House, route: str, count: int) -> None:
    """Waits until as many requests are over."""

    async def is_so() -> bool:
        return sum(outcomes(house, route).values()) >= count

    await eventually(is_so)


async def test_of_numbered_frames_the_newest_waiting_one_wins_and_each_gets_one_reply() -> None:
    house, gate = gated()
    async with served(house.app()) as address, opened(address) as socket:
        await socket.send(packed(seq=1))
        await gate.holds()
        for seq in (2, 3, 4):
            await socket.send(packed(seq=seq))
        replies: list[Any] = [json.loads(await socket.recv()) for _ in range(2)]
        gate.let_go(2)
        replies += [unpacked(await socket.recv()) for _ in range(2)]
    assert [reply["seq"] for reply in replies] == [2, 3, 1, 4]
    for reply in replies[:2]:
        error = reply["error"]
        assert (error["code"], error["robot_action"], error["is_retryable"]) == ("superseded", "continue", False)
    assert [event.status for event in house.journal.events] == [UsageStatus.SUCCESS] * 2
    assert len(house.triton.calls) == len(house.limiter.endings) == 2
    assert outcomes(house, "/openpi/policy") == {"superseded": 2, "success": 2}


async def test_without_numbers_the_next_message_is_never_about_an_older_frame() -> None:
    """As for a caller who gave up on an answer and asked again: openpi's client would take the old one for the new."""
    house, gate = gated()
    async with served(house.app()) as address, opened(address) as socket:
        await socket.send(packed(prompt="the first"))
        await gate.holds()
        await socket.send(packed(prompt="the second"))
        await socket.send(packed(prompt="the third"))
        await received(house, "/openpi/policy", 2)
        gate.let_go()
        answer = unpacked(await socket.recv())
        await socket.send(packed(prompt="the fourth"))
        gate.let_go()
        after = unpacked(await socket.recv())
    assert len(answer["superseded"]) == 2
    assert after["superseded"] == []
    said = {f"inf_{event.request_id.hex}": event.instruction for event in house.journal.events}
    assert (said[answer["request_id"]], said[after["request_id"]]) == ("the third", "the fourth")
    assert [event.status for event in house.journal.events if event.is_billable] == [UsageStatus.SUCCESS] * 2
    assert outcomes(house, "/openpi/policy") == {"superseded": 2, "success": 2}


async def test_pings_are_answered_while_the_model_runs() -> None:
    house, gate = gated()
    async with served(house.app()) as address, opened(address) as socket:
        await socket.send(packed())
        await gate.holds()
        await (await socket.ping())
        assert gate.running == 1
        gate.let_go()
        unpacked(await socket.recv())


async def test_a_caller_who_leaves_takes_the_work_along_and_is_not_billed() -> None:
    house, gate = gated()
    async with served(house.app()) as address:
        async with opened(address) as socket:
            await socket.send(packed(seq=1))
            await gate.holds()
            await socket.send(packed(seq=2))
        await gate.holds(0)
        await received(house, "/openpi/policy", 2)
        (event,) = house.journal.events
        assert (event.error_code, event.is_billable) == ("cancelled", False)
        assert outcomes(house, "/openpi/policy") == {"client_gone": 2}


async def test_a_server_that_stops_says_so_and_journals_what_was_running() -> None:
    house, gate = gated()
    async with AsyncExitStack() as server:
        address = await server.enter_async_context(served(house.app()))
        async with opened(address) as socket:
            await socket.send(packed())
            await gate.holds()
            await server.aclose()
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    (event,) = house.journal.events
    assert (event.error_code, event.is_billable) == ("cancelled", False)


async def test_a_process_that_is_replaced_answers_every_frame_before_it_closes() -> None:
    """The one that is worked on with its motion, the one that waits with an error to try again: none is left without a word."""
    house, gate = gated()
    async with served(house.app()) as address, opened(address) as socket:
        await socket.send(packed(seq=1))
        await gate.holds()
        await socket.send(packed(seq=2))
        await socket.send(packed(seq=3))
        assert json.loads(await socket.recv())["seq"] == 2  # overtaken, so 3 has been received
        house.drain.begin()
        gate.let_go()
        motion, refusal = unpacked(await socket.recv()), json.loads(await socket.recv())
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert motion["seq"] == 1
    assert "actions" in motion
    assert (refusal["seq"], refusal["error"]["code"], refusal["error"]["is_retryable"]) == (3, "overloaded", True)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "this process is being replaced: connect again")
    assert outcomes(house, "/openpi/policy") == {"superseded": 1, "success": 1, "overloaded": 1}


async def test_a_silent_socket_is_closed() -> None:
    async with served(House(socket_idle_s=0.2).app()) as address, opened(address) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "idle")


async def test_a_customer_can_keep_only_so_many_sockets_open() -> None:
    house = House()
    limits = replace(house.authenticator.holder.limits, concurrency=1)
    house.authenticator.holder = replace(house.authenticator.holder, limits=limits)
    async with served(house.app()) as address:
        async with AsyncExitStack() as sockets:
            for _ in range(4):
                await sockets.enter_async_context(opened(address))
            with pytest.raises(InvalidStatus) as refused:
                async with opened(address):
                    pass
        assert refused.value.response.status_code == 429
        assert json.loads(refused.value.response.body or b"")["error"]["code"] == "concurrency_limit"

        async def is_room_again() -> bool:
            try:
                async with opened(address):
                    return True
            except InvalidStatus:
                return False

        await eventually(is_room_again)
