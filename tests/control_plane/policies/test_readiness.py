"""The canary believes only a motion of the right shape, and does not ask more often than it must."""

import pytest

from control_plane.policies.readiness import Canary, PolicyState
from control_plane.policies.standing import PolicyStanding, Standing
from control_plane.triton import Tensor, TritonCall, TritonError, TritonFault
from tests.control_plane.fakes import STILL, FakeTriton, House


def answering(**changes: object) -> FakeTriton:
    facts = {"name": "action", "datatype": "FP32", "shape": (1, 8, 7), "data": STILL.tobytes(), **changes}
    return FakeTriton(answer={"action": Tensor(**facts)})  # type: ignore[arg-type]  # one wrong fact at a time


async def state_of(triton: FakeTriton) -> PolicyState:
    return (await House(triton=triton).canary(fresh_s=0.0).states())["tabletop"]


async def test_a_policy_that_answers_is_ready() -> None:
    assert await state_of(FakeTriton()) is PolicyState.READY


@pytest.mark.parametrize("wrong", [{"data": b""}, {"shape": (1, 0, 7), "data": b""}, {"datatype": "FP16"}, {"shape": (8, 8)}])
async def test_a_success_with_the_wrong_content_is_not_ready(wrong: dict[str, object]) -> None:
    assert await state_of(answering(**wrong)) is PolicyState.UNAVAILABLE


@pytest.mark.parametrize("fault", list(TritonFault))
async def test_every_failure_is_not_ready(fault: TritonFault) -> None:
    async def fails(_call: TritonCall) -> None:
        raise TritonError(fault, "details")

    assert await state_of(FakeTriton(before=fails)) is PolicyState.UNAVAILABLE


async def test_an_answer_is_believed_for_a_while_and_then_asked_again() -> None:
    house = House()
    patient, hasty = house.canary(fresh_s=60.0), house.canary(fresh_s=0.0)
    for canary in (patient, hasty):
        await canary.states()
        await canary.states()
    assert len(house.triton.calls) == 1 + 2


@pytest.mark.parametrize(
    "standing",
    [
        Standing(policies={"tabletop": PolicyStanding(policy="tabletop", is_enabled=False)}),
        Standing(disabled=frozenset({("tabletop", 1)})),
    ],
)
async def test_what_is_switched_off_is_not_asked_and_no_longer_told_of(standing: Standing) -> None:
    house = House()
    offer = house.offer
    canary = Canary(triton=house.triton, offer=offer, fresh_s=60.0)
    assert await canary.states() == {"tabletop": PolicyState.READY}
    offer.standing = standing
    assert await canary.states() == {}
    assert len(house.triton.calls) == 1
    offer.standing = Standing()
    assert await canary.states() == {"tabletop": PolicyState.READY}


async def test_the_canary_goes_last_and_is_bounded_in_time() -> None:
    house = House()
    await house.canary(fresh_s=0.0).states()
    (call,) = house.triton.calls
    assert (call.priority, call.request_id) == (2, "canary")
    assert call.timeout_s <= 2.0
