"""Calls spread over replicas by what each has in flight, and a dead one costs nobody an answer."""

import asyncio

import pytest

from control_plane.replicas import Replicas
from control_plane.triton import TritonCall, TritonError, TritonFault
from tests.control_plane.fakes import FakeTriton


def call(timeout_s: float = 5.0) -> TritonCall:
    return TritonCall(
        model="tabletop", version=1, request_id="inf_1", inputs=(), outputs=("action",), timeout_s=timeout_s, priority=2
    )


def failing(fault: TritonFault) -> FakeTriton:
    async def before(_call: TritonCall) -> None:
        raise TritonError(fault, "details")

    return FakeTriton(before=before)


class Clock:
    """Time that moves when told."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def test_calls_go_where_the_fewest_are_in_flight() -> None:
    go_on = asyncio.Event()

    async def waits(_call: TritonCall) -> None:
        await go_on.wait()

    tritons = [FakeTriton(before=waits) for _ in range(3)]
    replicas = Replicas(tritons)
    tasks = [asyncio.create_task(_infer(replicas)) for _ in range(7)]
    await asyncio.sleep(0)
    assert sorted(len(triton.calls) for triton in tritons) == [2, 2, 3]
    go_on.set()
    await asyncio.gather(*tasks)


async def _infer(replicas: Replicas) -> None:
    await replicas.infer(call())


@pytest.mark.parametrize("fault", [TritonFault.UNAVAILABLE, TritonFault.NOT_LOADED])
async def test_a_call_that_meets_a_dead_replica_is_answered_by_another(fault: TritonFault) -> None:
    dead, alive = failing(fault), FakeTriton()
    replicas = Replicas([dead, alive])
    for _ in range(5):
        assert "action" in await replicas.infer(call())
    assert (len(dead.calls), len(alive.calls)) == (1, 5)


async def test_a_dead_replica_is_tried_again_after_a_rest() -> None:
    dead, alive, clock = failing(TritonFault.UNAVAILABLE), FakeTriton(), Clock()
    replicas = Replicas([dead, alive], clock=clock)
    await replicas.infer(call())
    clock.now_s += 1.5
    await replicas.infer(call())
    assert len(dead.calls) == 2


@pytest.mark.parametrize("fault", [TritonFault.QUEUE_FULL, TritonFault.TOO_LATE, TritonFault.FAILED, TritonFault.BAD_REQUEST])
async def test_other_failures_are_not_taken_elsewhere(fault: TritonFault) -> None:
    first, second = failing(fault), FakeTriton()
    with pytest.raises(TritonError) as caught:
        await Replicas([first, second]).infer(call())
    assert caught.value.fault is fault
    assert second.calls == []


async def test_when_all_are_dead_the_caller_hears_so() -> None:
    with pytest.raises(TritonError) as caught:
        await Replicas([failing(TritonFault.UNAVAILABLE) for _ in range(3)]).infer(call())
    assert caught.value.fault is TritonFault.UNAVAILABLE


async def test_the_second_replica_gets_only_the_time_that_is_left() -> None:
    clock = Clock()

    async def before(_call: TritonCall) -> None:
        clock.now_s += 2.0
        raise TritonError(TritonFault.UNAVAILABLE, "gone")

    second = FakeTriton()
    replicas = Replicas([FakeTriton(before=before), second], clock=clock)
    await replicas.infer(call(timeout_s=5.0))
    assert second.calls[0].timeout_s == pytest.approx(3.0)


async def test_a_call_whose_time_is_over_goes_nowhere_else() -> None:
    clock = Clock()

    async def before(_call: TritonCall) -> None:
        clock.now_s += 6.0
        raise TritonError(TritonFault.UNAVAILABLE, "gone")

    second = FakeTriton()
    with pytest.raises(TritonError):
        await Replicas([FakeTriton(before=before), second], clock=clock).infer(call(timeout_s=5.0))
    assert second.calls == []
