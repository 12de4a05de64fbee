"""A replica whose canary is worse than its peers' is ejected and comes back; where all are bad nobody is."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Mapping

import numpy as np
import pytest

from control_plane.logs import create_log
from control_plane.policies.catalogue import load_catalogue
from control_plane.policies.offer import Offer
from control_plane.policies.outliers import Finding, Outliers, Symptom, compare
from control_plane.replicas import Replicas
from control_plane.triton import GrpcTriton, Tensor, Triton, TritonCall, TritonError, TritonFault
from tests.control_plane.eventually import eventually
from tests.control_plane.fakes import ROOT, FakeTriton
from tests.control_plane.test_triton import triton_that

CATALOGUE = load_catalogue(ROOT / "model_repository", default="tabletop")
HOLLOW = {"action": Tensor(name="action", datatype="FP32", shape=(0,), data=b"")}
NARROW = {"action": Tensor(name="action", datatype="FP32", shape=(1, 8, 6), data=np.zeros((1, 8, 6), np.float32).tobytes())}


class House:
    """Replicas with a judge that looks when told."""

    def __init__(self, *tritons: Triton, every_s: float = 0.02) -> None:
        self.replicas = Replicas({f"r{number}": triton for number, triton in enumerate(tritons)})
        self.ejections: list[tuple[str, str]] = []
        self.judge = Outliers(
            replicas=self.replicas,
            offer=Offer(catalogue=CATALOGUE),
            log=create_log("debug", io.BytesIO()),
            ejected=lambda address, reason: self.ejections.append((address, reason)),
            every_s=every_s,
        )

    async def look(self, rounds: int) -> None:
        for _ in range(rounds):
            for replica in self.replicas.all:
                replica.good_at_s.clear()  # as if nobody had asked since the last round
            await self.judge.look()

    @property
    def ejected(self) -> list[str]:
        return [replica.address for replica in self.replicas.all if replica.is_ejected]


def failing(fault: TritonFault) -> FakeTriton:
    async def before(_call: TritonCall) -> None:
        raise TritonError(fault, "details")

    return FakeTriton(before=before)


def slow(by_s: float) -> Callable[[TritonCall], Awaitable[None]]:
    async def before(_call: TritonCall) -> None:
        await asyncio.sleep(by_s)

    return before


@pytest.mark.parametrize("answer", [HOLLOW, NARROW])
async def test_one_wrong_answer_ejects(answer: Mapping[str, Tensor]) -> None:
    house = House(FakeTriton(answer=answer), FakeTriton())
    await house.look(1)
    assert house.ejections == [("r0", "wrong_answer")]


async def test_a_failing_replica_is_ejected_at_the_second_time() -> None:
    house = House(FakeTriton(), failing(TritonFault.FAILED))
    await house.look(1)
    assert house.ejected == []
    await house.look(1)
    assert house.ejections == [("r1", "failing")]


async def test_a_much_slower_replica_is_ejected_at_the_third_time() -> None:
    house = House(FakeTriton(), FakeTriton(), FakeTriton(before=slow(0.3)))
    await house.look(2)
    assert house.ejected == []
    await house.look(1)
    assert house.ejections == [("r2", "slow")]


async def test_an_ejected_replica_comes_back_after_three_good_canaries() -> None:
    sick = FakeTriton(answer=HOLLOW)
    house = House(sick, FakeTriton())
    await house.look(1)
    sick.answer = None
    await house.look(2)
    assert house.ejected == ["r0"]
    await house.look(1)
    assert house.ejected == []


async def test_a_relapse_starts_the_count_anew() -> None:
    sick = FakeTriton(answer=HOLLOW)
    house = House(sick, FakeTriton())
    await house.look(1)
    for _ in range(3):
        sick.answer = None
        await house.look(2)
        sick.answer = HOLLOW
        await house.look(1)
    assert house.ejected == ["r0"]


async def test_where_all_are_wrong_it_is_not_a_replica_that_is_at_fault() -> None:
    house = House(FakeTriton(answer=HOLLOW), FakeTriton(answer=HOLLOW))
    await house.look(5)
    assert house.ejected == []


async def test_at_most_half_are_ejected() -> None:
    house = House(*(FakeTriton(answer=HOLLOW) for _ in range(4)), FakeTriton())
    await house.look(3)
    assert len(house.ejected) == 2


async def test_the_last_one_that_takes_work_is_never_ejected() -> None:
    house = House(FakeTriton(answer=HOLLOW), FakeTriton(), FakeTriton())
    house.replicas.drain({"r1"})
    house.replicas.all[2].breaker.failed()
    await house.judge.look()
    assert house.ejected == ["r0"]  # the third came back in this very look
    other = House(FakeTriton(answer=HOLLOW), FakeTriton())
    other.replicas.drain({"r1"})
    await other.look(3)
    assert other.ejected == []


@pytest.mark.parametrize("fault", [TritonFault.UNAVAILABLE, TritonFault.NOT_LOADED, TritonFault.QUEUE_FULL])
async def test_a_replica_that_is_away_lacks_the_policy_or_is_full_is_not_ejected(fault: TritonFault) -> None:
    house = House(failing(fault), FakeTriton())
    await house.look(4)
    assert house.ejected == []


async def test_a_replica_that_answers_real_requests_well_is_asked_in_one_round_of_five() -> None:
    tritons = [FakeTriton(), FakeTriton()]
    house = House(*tritons, every_s=60.0)
    await house.judge.look()
    asked = len(tritons[0].calls)
    for _ in range(5):
        await house.judge.look()
    assert len(tritons[0].calls) == asked + 1


def test_slow_is_three_times_the_others_and_a_margin() -> None:
    assert compare({"a": Finding(took_s=0.010), "b": Finding(took_s=0.054)})["b"].symptom is None
    assert compare({"a": Finding(took_s=0.010), "b": Finding(took_s=0.056)})["b"].symptom is Symptom.SLOW
    assert compare({"a": Finding(took_s=0.010)})["a"].symptom is None


async def test_a_real_server_with_empty_tensors_is_found_by_itself_and_gets_no_more_requests() -> None:
    asked = 0

    async def empty(request: object, _context: object) -> object:
        nonlocal asked
        from tritonclient.grpc import service_pb2

        if request.id != "canary":  # type: ignore[attr-defined]  # a protobuf
            asked += 1
        answer = service_pb2.ModelInferResponse(model_name="tabletop")
        answer.outputs.add(name="action", datatype="FP32", shape=[0])
        answer.raw_output_contents.append(b"")
        return answer

    async with triton_that(empty) as address:
        hollow = GrpcTriton(address)
        house = House(hollow, FakeTriton(), every_s=0.2)
        house.judge.start()

        async def is_ejected() -> bool:
            return house.ejected == ["r0"]

        await eventually(is_ejected)
        for _ in range(10):
            await house.replicas.infer(
                TritonCall(model="tabletop", version=1, request_id="x", inputs=(), outputs=("action",), timeout_s=5.0, priority=1)
            )
        await house.judge.stop()
        await hollow.close()
    assert asked == 0
