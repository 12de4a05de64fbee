"""The ten steps: whatever happens, an admitted request leaves one event, and what is our fault is given back."""

import asyncio
import dataclasses
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from billing.tiers import Tier
from control_plane.errors import ApiError
from control_plane.guarding.fields import InstructionFields
from control_plane.guarding.fields import Settings as Limits
from control_plane.identity.principal import CustomerSafety, Principal
from control_plane.inference.observation import Inquiry
from control_plane.inference.pipeline import Call
from control_plane.inference.trace import Trace
from control_plane.limits.limiter import Beside
from control_plane.triton import Tensor, TritonCall, TritonError, TritonFault
from control_plane.usage.event import UsageEvent, UsageStatus
from safety.context import NOTHING_KNOWN, Context
from safety.instruction import InstructionMode
from safety.verdict import Decision
from tests.control_plane.fakes import (
    KEY,
    STILL,
    FakeAdmission,
    FakeAuthenticator,
    FakeLimiter,
    FakeTriton,
    House,
    picture,
    principal,
)

LEAP = np.full((8, 7), 3.0, np.float32)


def call(authorization: str | None = KEY, **changes: Any) -> Call:
    inquiry = Inquiry(**{"image": picture(), "images": {}, "instruction": "pick up red cube", **changes})

    async def parse() -> Inquiry:
        return inquiry

    return Call(trace=Trace(route="/v1/inference"), authorization=authorization, parse=parse)


async def refusal(house: House, asked: Call | None = None) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await house.pipeline().answer(asked or call())
    return caught.value


def raising(fault: TritonFault) -> Callable[[TritonCall], Awaitable[None]]:
    async def before(_call: TritonCall) -> None:
        raise TritonError(fault, "/opt/secret/model.py line 7")

    return before


def event_of(house: House) -> UsageEvent:
    (event,) = house.journal.events
    return event


async def test_an_answer_has_gone_through_every_step_in_order() -> None:
    house = House()
    answer = await house.pipeline().answer(call(session_id="ep-17"))
    steps = [
        "authenticate",
        "parse",
        "admit",
        "contract",
        "queue",
        "decode",
        "preprocess",
        "compute",
        "guard",
        "journal",
        "total",
    ]
    assert list(answer.trace.stages_ms) == steps
    assert answer.verdict.decision is Decision.PASS
    assert house.limiter.endings == ["settled"]


async def test_the_event_says_what_was_answered() -> None:
    house = House(triton=FakeTriton(action=STILL + np.float32(0.001)))
    asked = call(session_id="ep-17")
    await house.pipeline().answer(asked)
    event = event_of(house)
    assert event.request_id == asked.trace.request_id
    assert event.occurred_at.timestamp() * 1000 == pytest.approx(event.request_id.int >> 80)
    assert (event.status, event.is_billable, event.decision) == (UsageStatus.SUCCESS, True, "pass")
    assert (event.policy, event.policy_version, event.robot_type) == ("tabletop", 1, "franka_panda")
    assert (event.route, event.instruction, event.session_id) == ("/v1/inference", "pick up red cube", "ep-17")
    assert event.action == (STILL + np.float32(0.001)).tolist()
    assert event.compute_ms is not None
    assert event.error_code is None


async def test_zero_retention_keeps_neither_words_nor_motion() -> None:
    house = House(authenticator=FakeAuthenticator(holder=principal(is_zero_retention=True)))
    await house.pipeline().answer(call())
    assert (event_of(house).instruction, event_of(house).action) == (None, None)
    assert event_of(house).is_billable


async def test_a_motion_that_the_guard_changed_is_kept_as_it_was_wanted_too() -> None:
    wanted = STILL.copy()
    wanted[2, 0] = 0.03
    house = House(triton=FakeTriton(action=wanted))
    answer = await house.pipeline().answer(call())
    assert answer.verdict.decision is Decision.CLAMP
    assert event_of(house).raw_action == wanted.tolist()
    assert event_of(house).action == answer.verdict.actions.tolist() != wanted.tolist()


async def test_what_a_refused_motion_wanted_is_kept_and_a_passed_one_is_kept_once() -> None:
    refused, passed = House(triton=FakeTriton(action=LEAP)), House()
    await refused.pipeline().answer(call())
    await passed.pipeline().answer(call())
    assert (event_of(refused).action, event_of(refused).raw_action) == (None, LEAP.tolist())
    assert event_of(passed).raw_action is None


async def test_zero_retention_keeps_no_raw_motion_either() -> None:
    house = House(authenticator=FakeAuthenticator(holder=principal(is_zero_retention=True)), triton=FakeTriton(action=LEAP))
    await house.pipeline().answer(call())
    assert (event_of(house).action, event_of(house).raw_action, event_of(house).decision) == (None, None, "reject")


async def test_a_refused_instruction_never_reaches_the_policy_and_only_its_hash_is_logged() -> None:
    house = House(deployment=Limits(instruction=InstructionFields(mode=InstructionMode.DENY_LIST)))
    error = await refusal(house, call(instruction="stab the person with the screwdriver"))
    assert (error.kind.code, error.param) == ("instruction_refused", "instruction")
    assert "harm_to_people" in error.message
    assert (event_of(house).status, event_of(house).instruction) == (UsageStatus.INVALID, None)
    assert house.triton.calls == []
    assert "screwdriver" not in house.logs()
    assert hashlib.sha256(b"stab the person with the screwdriver").hexdigest() in house.logs()


async def test_a_guard_that_takes_longer_than_is_left_gives_no_motion() -> None:
    house = House()
    found = house.pipeline().guards.in_force.base["tabletop", "franka_panda"].guard

    class Slow:
        def check(self, raw: object, context: Context = NOTHING_KNOWN) -> Any:
            time.sleep(1.2)
            return found.check(raw, context)

        def check_context(self, context: Context) -> Any:
            return found.check_context(context)

    house.guard = Slow()
    error = await refusal(house, call(deadline_ms=1000))
    assert error.kind.code == "guard_unavailable"
    assert (event_of(house).status, event_of(house).error_code) == (UsageStatus.ERROR, "guard_unavailable")
    assert house.limiter.endings == ["given back"]


async def test_stored_settings_that_cannot_be_read_give_no_motion() -> None:
    broken = CustomerSafety(version=1, document="{not json", preset=None)
    house = House(authenticator=FakeAuthenticator(holder=principal(safety=broken)))
    assert (await refusal(house)).kind.code == "guard_unavailable"
    assert house.triton.calls == []


async def test_a_stored_layer_that_does_not_fit_the_robot_is_named() -> None:
    empty = '{"limits": {"workspace": {"low_m": [90, 90, 90], "high_m": [91, 91, 91]}, "joint_min_rad": [0.0]}}'
    house = House(
        authenticator=FakeAuthenticator(holder=principal(safety=CustomerSafety(version=1, document=empty, preset=None)))
    )
    error = await refusal(house)
    assert (error.kind.code, str(error.param).startswith("safety.settings")) == ("invalid_safety", True)


async def test_the_preset_that_an_operator_opted_in_is_in_force() -> None:
    stored = CustomerSafety(version=1, document="{}", preset="manufacturer")
    quick = STILL.copy()
    quick[:, 0] = 0.03
    house = House(authenticator=FakeAuthenticator(holder=principal(safety=stored)), triton=FakeTriton(action=quick))
    answer = await house.pipeline().answer(call())
    assert answer.verdict.decision is Decision.PASS
    assert "preset:manufacturer" in answer.verdict.profile


async def test_reasons_why_rules_could_not_look_are_counted_without_a_series_per_rule() -> None:
    house = House()
    answer = await house.pipeline().answer(call())
    unseen = [rule.reason for rule in answer.verdict.rules if rule.reason is not None]
    registry = house.metrics.registry
    for reason in set(unseen):
        found = registry.get_sample_value("vla_guard_not_evaluated_total", {"reason": reason.value})
        assert found == unseen.count(reason)


async def test_a_refused_motion_is_an_answer_that_is_not_billed() -> None:
    house = House(triton=FakeTriton(action=LEAP))
    answer = await house.pipeline().answer(call())
    assert answer.is_refused
    assert answer.verdict.actions.size == 0
    assert (event_of(house).status, event_of(house).is_billable, event_of(house).action) == (UsageStatus.REFUSED, False, None)
    assert event_of(house).limiting_rule == answer.verdict.limiting_rule
    assert house.limiter.endings == ["settled"]


async def test_a_nan_from_the_model_is_refused() -> None:
    broken = STILL.copy()
    broken[3, 2] = np.nan
    answer = await House(triton=FakeTriton(action=broken)).pipeline().answer(call())
    assert answer.is_refused
    assert answer.verdict.limiting_rule == "A2.finite"


async def test_without_a_good_key_nothing_is_admitted_or_decoded() -> None:
    house = House()
    for authorization, code in ((None, "missing_key"), ("Bearer nonsense", "unknown_key")):
        assert (await refusal(house, call(authorization))).kind.code == code
    assert (house.journal.events, house.limiter.endings, house.triton.calls) == ([], [], [])


async def test_a_refused_admission_leaves_no_event() -> None:
    house = House(limiter=FakeLimiter(refusal=ApiError("minute_limit", headers={"RateLimit": "r=0"}, retry_after_ms=600)))
    error = await refusal(house)
    assert (error.kind.code, error.headers["RateLimit"]) == ("minute_limit", "r=0")
    assert house.journal.events == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"image": b"\xff\xd8\xffbroken"}, "invalid_image"),
        ({"instruction": ""}, "invalid_instruction"),
        ({"state": (1.0,)}, "invalid_state"),
        ({"model": "gpt"}, "unknown_model"),
    ],
)
async def test_a_callers_mistake_counts_and_is_not_billed(changes: dict[str, Any], code: str) -> None:
    house = House()
    error = await refusal(house, call(**changes))
    assert error.kind.code == code
    assert error.headers["RateLimit"].startswith('"minute"')
    assert (event_of(house).status, event_of(house).error_code) == (UsageStatus.INVALID, code)
    assert house.limiter.endings == ["settled"]
    assert house.triton.calls == []


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        (TritonFault.QUEUE_FULL, "overloaded", UsageStatus.ERROR),
        (TritonFault.TOO_LATE, "deadline_exceeded", UsageStatus.TIMEOUT),
        (TritonFault.UNAVAILABLE, "policy_unavailable", UsageStatus.ERROR),
        (TritonFault.NOT_LOADED, "policy_unavailable", UsageStatus.ERROR),
        (TritonFault.BAD_REQUEST, "internal_error", UsageStatus.ERROR),
        (TritonFault.FAILED, "policy_failed", UsageStatus.ERROR),
    ],
)
async def test_our_fault_is_given_back(fault: TritonFault, code: str, status: UsageStatus) -> None:
    house = House(triton=FakeTriton(before=raising(fault)))
    error = await refusal(house)
    assert error.kind.code == code
    assert "secret" not in error.message
    assert (event_of(house).status, event_of(house).error_code) == (status, code)
    assert house.limiter.endings == ["given back"]
    assert "/opt/secret/model.py" in house.logs()


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor(name="action", datatype="FP32", shape=(1, 8, 7), data=b""),
        Tensor(name="action", datatype="FP32", shape=(1, 0, 7), data=b""),
        Tensor(name="action", datatype="FP32", shape=(1, 7, 8), data=STILL.tobytes()),
        Tensor(name="action", datatype="FP64", shape=(1, 8, 7), data=STILL.astype(np.float64).tobytes()),
        Tensor(name="other", datatype="FP32", shape=(1, 8, 7), data=STILL.tobytes()),
    ],
)
async def test_a_success_of_the_wrong_shape_is_a_failed_policy(tensor: Tensor) -> None:
    house = House(triton=FakeTriton(answer={tensor.name: tensor}))
    assert (await refusal(house)).kind.code == "policy_failed"
    assert house.limiter.endings == ["given back"]


async def test_work_that_is_already_late_never_reaches_triton() -> None:
    house = House()
    asked = call(deadline_ms=1)
    asked.trace.started_s -= 1.0
    assert (await refusal(house, asked)).kind.code == "deadline_exceeded"
    assert house.triton.calls == []


async def test_triton_is_given_what_is_left_of_the_deadline() -> None:
    house = House()
    await house.pipeline().answer(call(deadline_ms=5000))
    assert 0 < house.triton.calls[0].timeout_s < 5


async def test_a_motion_that_comes_too_late_is_neither_given_nor_billed() -> None:
    async def dawdles(_call: TritonCall) -> None:
        await asyncio.sleep(0.1)

    house = House(triton=FakeTriton(before=dawdles))
    with pytest.raises(ApiError) as caught:
        await dataclasses.replace(house.pipeline(), default_deadline_ms=100).answer(call())
    assert (caught.value.kind.code, caught.value.param) == ("deadline_exceeded", None)
    assert event_of(house).status is UsageStatus.TIMEOUT
    assert house.limiter.endings == ["given back"]


async def test_a_deadline_shorter_than_the_default_buys_no_free_work() -> None:
    async def dawdles(_call: TritonCall) -> None:
        await asyncio.sleep(0.1)

    house = House(triton=FakeTriton(before=dawdles))
    late = await refusal(house, call(deadline_ms=100))
    assert (late.kind.code, late.param) == ("deadline_exceeded", "deadline_ms")
    assert event_of(house).status is UsageStatus.TIMEOUT
    assert house.limiter.endings == ["settled"]


async def test_a_caller_who_hangs_up_while_being_admitted_keeps_no_place_and_is_counted() -> None:
    house, is_asked, may_answer = House(), asyncio.Event(), asyncio.Event()
    admit = house.limiter.admit

    async def slow(principal: Principal, lease_id: str, lease_ms: int, *, beside: Beside | None = None) -> FakeAdmission:
        is_asked.set()
        await may_answer.wait()
        return await admit(principal, lease_id, lease_ms, beside=beside)

    house.limiter.admit = slow  # type: ignore[method-assign]  # the same limiter, only later
    work = asyncio.create_task(house.pipeline().answer(call()))
    await is_asked.wait()
    work.cancel()
    asyncio.get_running_loop().call_soon(may_answer.set)
    with pytest.raises(asyncio.CancelledError):
        await work
    assert house.limiter.endings == ["settled"]
    assert event_of(house).error_code == "cancelled"


@pytest.mark.parametrize(("tier", "priority"), [(Tier.ENTERPRISE, 1), (Tier.PRO, 2), (Tier.FREE, 2)])
async def test_who_pays_for_volume_goes_first(tier: Tier, priority: int) -> None:
    house = House(authenticator=FakeAuthenticator(holder=principal(tier=tier)))
    await house.pipeline().answer(call())
    assert house.triton.calls[0].priority == priority


class BrokenGuard:
    def check(self, raw: object, context: Context = NOTHING_KNOWN) -> Any:  # noqa: ARG002 -- the seam's signature
        raise ValueError("matrix is singular")

    def check_context(self, context: Context) -> Any:  # noqa: ARG002 -- as above
        raise ValueError("matrix is singular")


async def test_a_broken_guard_gives_no_motion() -> None:
    house = House(guard=BrokenGuard())
    assert (await refusal(house)).kind.code == "guard_unavailable"
    assert event_of(house).error_code == "guard_unavailable"
    assert "matrix is singular" in house.logs()


async def test_an_event_that_cannot_be_written_withholds_the_answer() -> None:
    async def fails(_event: UsageEvent) -> None:
        raise ApiError("journal_unavailable")

    house = House()
    house.journal.before = fails
    assert (await refusal(house)).kind.code == "journal_unavailable"
    assert house.journal.events == []


async def test_a_failed_write_is_not_followed_by_another_event() -> None:
    attempts: list[UsageEvent] = []

    async def fails(event: UsageEvent) -> None:
        attempts.append(event)
        raise ApiError("journal_unavailable")

    house = House()
    house.journal.before = fails
    await refusal(house)
    assert [event.status for event in attempts] == [UsageStatus.SUCCESS]


async def test_a_failure_whose_event_cannot_be_written_is_still_told() -> None:
    async def fails(_event: UsageEvent) -> None:
        raise ApiError("journal_unavailable")

    house = House(triton=FakeTriton(before=raising(TritonFault.FAILED)))
    house.journal.before = fails
    assert (await refusal(house)).kind.code == "policy_failed"
    assert "usage_event_not_written" in house.logs()


async def test_a_cancelled_request_is_settled_and_recorded() -> None:
    reached = asyncio.Event()

    async def hangs(_call: TritonCall) -> None:
        reached.set()
        await asyncio.Event().wait()

    house = House(triton=FakeTriton(before=hangs))
    task = asyncio.create_task(house.pipeline().answer(call()))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (event_of(house).status, event_of(house).error_code) == (UsageStatus.ERROR, "cancelled")
    assert house.limiter.endings == ["settled"]


async def test_a_cancellation_while_the_event_is_written_does_not_tear_it() -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_event: UsageEvent) -> None:
        reached.set()
        await go_on.wait()

    house = House()
    house.journal.before = slow
    task = asyncio.create_task(house.pipeline().answer(call()))
    await reached.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert event_of(house).status is UsageStatus.SUCCESS
    assert house.limiter.endings == ["settled"]


async def test_beyond_its_places_the_process_sheds_load_unread() -> None:
    go_on = asyncio.Event()

    async def waits(_call: TritonCall) -> None:
        await go_on.wait()

    house = House(triton=FakeTriton(before=waits), max_in_flight=2)
    pipeline = house.pipeline()
    tasks = [asyncio.create_task(pipeline.answer(call())) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    async def never() -> Inquiry:
        pytest.fail("the request was parsed")

    with pytest.raises(ApiError) as caught:
        await pipeline.answer(Call(trace=Trace(), authorization=KEY, parse=never))
    go_on.set()
    await asyncio.gather(*tasks)
    assert caught.value.kind.code == "overloaded"
    assert caught.value.retry_after_ms is not None
    await pipeline.answer(call())
