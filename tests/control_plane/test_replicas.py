"""Calls spread over replicas by what each has in flight; one that surely reached no model is asked once more, elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from control_plane.replicas import Replicas, ReplicaState
from control_plane.triton import GrpcTriton, Tensor, Triton, TritonCall, TritonError, TritonFault
from tests.conftest import free_port
from tests.control_plane.fakes import FakeTriton
from tests.control_plane.relay import relay_to
from tests.control_plane.test_triton import echo, triton_that


def call(timeout_s: float = 5.0) -> TritonCall:
    return TritonCall(
        model="tabletop", version=1, request_id="inf_1", inputs=(), outputs=("action",), timeout_s=timeout_s, priority=2
    )


def failing(fault: TritonFault, *, was_dispatched: bool = False) -> FakeTriton:
    async def before(_call: TritonCall) -> None:
        raise TritonError(fault, "details", was_dispatched=was_dispatched)

    return FakeTriton(before=before)


def replicas_of(*tritons: Triton, **options: object) -> Replicas:
    return Replicas({f"replica-{number}": triton for number, triton in enumerate(tritons)}, **options)  # type: ignore[arg-type]  # as given


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
    replicas = replicas_of(*tritons)
    tasks = [asyncio.create_task(_infer(replicas)) for _ in range(7)]
    await asyncio.sleep(0)
    assert sorted(len(triton.calls) for triton in tritons) == [2, 2, 3]
    go_on.set()
    await asyncio.gather(*tasks)


async def test_calls_one_after_another_take_turns_so_that_no_replica_goes_cold() -> None:
    tritons = [FakeTriton() for _ in range(3)]
    replicas = replicas_of(*tritons)
    for _ in range(9):
        await replicas.infer(call())
    assert [len(triton.calls) for triton in tritons] == [3, 3, 3]


async def _infer(replicas: Replicas) -> None:
    await replicas.infer(call())


@pytest.mark.parametrize("fault", [TritonFault.UNAVAILABLE, TritonFault.NOT_LOADED])
async def test_a_call_that_reached_no_model_is_answered_by_another_and_counted(fault: TritonFault) -> None:
    dead, alive = failing(fault), FakeTriton()
    retried: list[str] = []
    replicas = replicas_of(dead, alive, retried=retried.append)
    for _ in range(5):
        assert "action" in await replicas.infer(call())
    assert (len(dead.calls), len(alive.calls), retried) == (1, 5, ["replica-0"])


async def test_replicas_that_lack_the_model_are_passed_over_until_one_has_it() -> None:
    lacking, having = [failing(TritonFault.NOT_LOADED) for _ in range(3)], FakeTriton()
    replicas = replicas_of(*lacking, having)
    for _ in range(4):
        assert "action" in await replicas.infer(call())
    assert ([len(triton.calls) for triton in lacking], len(having.calls)) == ([1, 1, 1], 4)
    with pytest.raises(TritonError) as nobody:
        await replicas_of(*[failing(TritonFault.NOT_LOADED) for _ in range(3)]).infer(call())
    assert nobody.value.fault is TritonFault.NOT_LOADED


async def test_a_second_loss_is_told_though_a_third_replica_lives() -> None:
    alive = FakeTriton()
    with pytest.raises(TritonError):
        await replicas_of(failing(TritonFault.UNAVAILABLE), failing(TritonFault.UNAVAILABLE), alive).infer(call())
    assert alive.calls == []


async def test_a_call_that_may_have_reached_a_model_is_not_asked_again() -> None:
    dead, alive = failing(TritonFault.UNAVAILABLE, was_dispatched=True), FakeTriton()
    with pytest.raises(TritonError):
        await replicas_of(dead, alive).infer(call())
    assert alive.calls == []


async def test_a_call_is_asked_again_once_only() -> None:
    tritons = [failing(TritonFault.UNAVAILABLE) for _ in range(4)]
    with pytest.raises(TritonError) as caught:
        await replicas_of(*tritons).infer(call())
    assert caught.value.fault is TritonFault.UNAVAILABLE
    assert sum(len(triton.calls) for triton in tritons) == 2


async def test_a_dead_replica_is_tried_again_after_a_rest_by_one_call_at_a_time() -> None:
    go_on, clock = asyncio.Event(), Clock()
    is_back = False

    async def before(_call: TritonCall) -> None:
        if not is_back:
            raise TritonError(TritonFault.UNAVAILABLE, "gone", was_dispatched=False)
        await go_on.wait()

    back, alive = FakeTriton(before=before), FakeTriton()
    replicas = replicas_of(back, alive, clock=clock)
    await replicas.infer(call())
    assert _states(replicas)[0] is ReplicaState.AWAY
    is_back = True
    clock.now_s += 1.5
    trial = asyncio.create_task(_infer(replicas))
    await asyncio.sleep(0)
    for _ in range(5):
        await replicas.infer(call())
    assert (len(back.calls), len(alive.calls)) == (2, 6)
    go_on.set()
    await trial
    assert _states(replicas)[0] is ReplicaState.SERVING


def _states(replicas: Replicas) -> list[ReplicaState]:
    return [replica.state for replica in replicas.all]


@pytest.mark.parametrize("fault", [TritonFault.QUEUE_FULL, TritonFault.TOO_LATE, TritonFault.FAILED, TritonFault.BAD_REQUEST])
async def test_other_failures_are_not_taken_elsewhere(fault: TritonFault) -> None:
    first, second = failing(fault), FakeTriton()
    with pytest.raises(TritonError) as caught:
        await replicas_of(first, second).infer(call())
    assert caught.value.fault is fault
    assert second.calls == []


async def test_a_lone_dead_replica_is_asked_every_time_so_that_its_return_is_seen_at_once() -> None:
    dead = failing(TritonFault.UNAVAILABLE)
    replicas = replicas_of(dead)
    for _ in range(3):
        with pytest.raises(TritonError):
            await replicas.infer(call())
    assert len(dead.calls) == 3


async def test_the_second_replica_gets_only_the_time_that_is_left() -> None:
    clock = Clock()

    async def before(_call: TritonCall) -> None:
        clock.now_s += 2.0
        raise TritonError(TritonFault.UNAVAILABLE, "gone", was_dispatched=False)

    second = FakeTriton()
    await replicas_of(FakeTriton(before=before), second, clock=clock).infer(call(timeout_s=5.0))
    assert second.calls[0].timeout_s == pytest.approx(3.0)


async def test_a_call_whose_time_is_over_goes_nowhere_else() -> None:
    clock = Clock()

    async def before(_call: TritonCall) -> None:
        clock.now_s += 6.0
        raise TritonError(TritonFault.UNAVAILABLE, "gone", was_dispatched=False)

    second = FakeTriton()
    with pytest.raises(TritonError):
        await replicas_of(FakeTriton(before=before), second, clock=clock).infer(call(timeout_s=5.0))
    assert second.calls == []


async def test_a_draining_replica_gets_nothing_new_and_keeps_what_it_has() -> None:
    go_on = asyncio.Event()

    async def waits(_call: TritonCall) -> None:
        await go_on.wait()

    draining, other = FakeTriton(before=waits), FakeTriton()
    replicas = replicas_of(draining, other)
    held = asyncio.create_task(_infer(replicas))
    await asyncio.sleep(0)
    replicas.drain({"replica-0"})
    for _ in range(3):
        await replicas.infer(call())
    assert (len(draining.calls), len(other.calls), replicas.all[0].in_flight) == (1, 3, 1)
    assert (replicas.all[0].state, replicas.usable) == (ReplicaState.DRAINING, 1)
    go_on.set()
    await held
    replicas.drain(())
    assert replicas.usable == 2


async def test_when_all_are_draining_the_caller_hears_that_nobody_is_there() -> None:
    replicas = replicas_of(FakeTriton(), FakeTriton())
    replicas.drain({"replica-0", "replica-1"})
    with pytest.raises(TritonError) as caught:
        await replicas.infer(call())
    assert (caught.value.fault, caught.value.was_dispatched) == (TritonFault.UNAVAILABLE, False)


async def test_an_ejected_replica_is_better_than_none() -> None:
    ejected, dead = FakeTriton(), failing(TritonFault.UNAVAILABLE)
    replicas = replicas_of(ejected, dead)
    replicas.all[0].is_ejected = True
    assert "action" in await replicas.infer(call())
    assert (len(dead.calls), len(ejected.calls)) == (1, 1)


async def test_success_with_nothing_inside_makes_a_replica_suspect() -> None:
    hollow = FakeTriton(answer={"action": Tensor(name="action", datatype="FP32", shape=(0,), data=b"")})
    replicas = replicas_of(hollow)
    await replicas.infer(call())
    assert replicas.all[0].is_suspect


@asynccontextmanager
async def over(*addresses: str) -> AsyncIterator[Replicas]:
    """Replicas over real connections."""
    replicas = Replicas({address: GrpcTriton(address) for address in addresses})
    try:
        yield replicas
    finally:
        await replicas.close()


async def test_a_server_that_is_not_there_costs_no_answer() -> None:
    async with triton_that(echo) as address, over(f"127.0.0.1:{free_port().number}", address) as replicas:
        for _ in range(4):
            assert "action" in await replicas.infer(call())


async def test_a_server_that_dies_after_the_bytes_had_come_is_not_asked_again_elsewhere() -> None:
    asked: list[str] = []
    reached = asyncio.Event()

    async def hang(_request: object, _context: object) -> object:
        reached.set()
        return await asyncio.Event().wait()

    async def answer(request: object, context: object) -> object:
        asked.append("second")
        return await echo(request, context)

    async with (
        triton_that(hang) as first,
        triton_that(answer) as second,
        relay_to(f"tcp://{first}") as relay,
        over(relay.url.removeprefix("tcp://"), second) as replicas,
    ):
        task = asyncio.create_task(_infer(replicas))
        await reached.wait()
        relay.cut()
        with pytest.raises(TritonError) as caught:
            await task
    assert (caught.value.fault, caught.value.was_dispatched, asked) == (TritonFault.UNAVAILABLE, True, [])


async def test_a_connection_that_broke_while_idle_costs_no_answer() -> None:
    async with (
        triton_that(echo) as first,
        triton_that(echo) as second,
        relay_to(f"tcp://{first}") as relay,
        over(relay.url.removeprefix("tcp://"), second) as replicas,
    ):
        for _ in range(2):
            await replicas.infer(call())
        relay.cut()
        await asyncio.sleep(0.1)
        for _ in range(4):
            assert "action" in await replicas.infer(call())


async def test_a_host_that_takes_connections_and_says_nothing_is_given_up_in_time_for_another() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with silent, triton_that(echo) as address, over(f"127.0.0.1:{port}", address) as replicas:
        assert "action" in await replicas.infer(call(timeout_s=30.0))
