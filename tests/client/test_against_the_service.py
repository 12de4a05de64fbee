"""The SDK and the real service: what one promises the other keeps."""

import asyncio
import time

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.stack import Stack
from vlaapi_client import (
    AsyncClient,
    ChunkBroker,
    Client,
    Due,
    InvalidRequest,
    NotAllowed,
    Plan,
    Refused,
    RemotePolicy,
    Step,
    Stop,
)

INSTRUCTION = "pick up red cube"
UNKNOWN_KEY = "vla_live_00000000000000000000000000000000000000"


@pytest.fixture(scope="module")
def frame(stack: Stack) -> NDArray[np.uint8]:
    """What the camera sees."""
    return np.asarray(Image.open(stack.example).convert("RGB"))


def test_warming_up_learns_the_models_and_a_motion_comes_back(stack: Stack, url: str, frame: NDArray[np.uint8]) -> None:
    with Client(url, stack.key, deadline_ms=30_000) as client:
        (model,) = client.warm()
        answer = client.infer(frame, INSTRUCTION, model=model.id, session_id="one", seq=3, obs_age_ms=4.5)
    assert model.is_default
    assert model.cameras[0].width == 128
    assert answer.action.chunk.shape == (model.horizon, len(model.action_names))
    assert answer.action.names == model.action_names
    assert (answer.session_id, answer.seq, answer.model) == ("one", 3, "tabletop")
    assert answer.verdict.decision in {"pass", "clamp", "truncate"}
    assert 0 < answer.timings.total_ms <= answer.timings.round_trip_ms
    assert answer.rate_limit.limit == 1_000_000
    assert answer.expires_in_ms is not None


def test_a_picture_made_smaller_here_is_the_picture_made_smaller_there(stack: Stack, url: str, frame: NDArray[np.uint8]) -> None:
    large = np.asarray(Image.fromarray(frame).resize((640, 480)))
    chunks = []
    for downscale in (False, True):
        with Client(url, stack.key, deadline_ms=30_000, jpeg_quality=None, downscale=downscale) as client:
            client.warm()
            chunks.append(client.infer(large, INSTRUCTION).action.chunk)
    assert (chunks[0] == chunks[1]).all()


def test_what_is_wrong_is_named_as_the_service_names_it(stack: Stack, url: str, frame: NDArray[np.uint8]) -> None:
    with Client(url, stack.key, deadline_ms=30_000) as client:
        for wrong, code, param in (
            ({"state": [0.0, 0.1]}, "invalid_state", "state"),
            ({"model": "no-such-model"}, "unknown_model", "model"),
            ({"unnorm_key": "x"}, "unknown_unnorm_key", "unnorm_key"),
        ):
            with pytest.raises(InvalidRequest) as error:
                client.infer(frame, INSTRUCTION, **wrong)
            assert (error.value.code, error.value.param) == (code, param)
            assert (error.value.request_id or "").startswith("inf_")
            assert error.value.rate_limit is not None
        with pytest.raises(Stop) as stop:
            client.infer(frame, INSTRUCTION, robot_type="a_toaster")
        assert stop.value.code == "unknown_robot"
    with Client(url, UNKNOWN_KEY) as stranger, pytest.raises(NotAllowed):
        stranger.warm()


def test_a_motion_that_the_guard_refuses_is_never_a_motion(stack: Stack, url: str, frame: NDArray[np.uint8]) -> None:
    with Client(url, stack.key, deadline_ms=30_000) as client, pytest.raises(Refused) as refused:
        client.infer(frame, INSTRUCTION, safety={"required_rules": ["D2"]})
    assert refused.value.answer is not None
    assert refused.value.answer.refused_for == "required_rule_not_evaluated"
    assert refused.value.answer.fallback is not None
    assert refused.value.answer.action.values.size == 0


async def test_many_robots_of_one_program_share_the_client(stack: Stack, url: str, frame: NDArray[np.uint8]) -> None:
    async with AsyncClient(url, stack.key, deadline_ms=30_000) as client:
        await client.warm()
        answers = await asyncio.gather(*(client.infer(frame, INSTRUCTION, session_id=f"robot-{n}", seq=0) for n in range(8)))
    assert {answer.session_id for answer in answers} == {f"robot-{n}" for n in range(8)}
    assert len({answer.request_id for answer in answers}) == 8


def test_the_broker_keeps_a_robot_moving_and_the_guard_knows_the_session(
    stack: Stack, url: str, frame: NDArray[np.uint8]
) -> None:
    steps: list[Step] = []
    with Client(url, stack.key, deadline_ms=30_000) as client, ChunkBroker(client, INSTRUCTION, Plan(max_age_s=60.0)) as broker:
        client.warm()
        while len([step for step in steps if step.due is Due.MOVE]) < 20:
            steps.append(broker.step(frame))
            time.sleep(0.02)
        broker.wait(30)
    answers = {step.answer.request_id: step.answer for step in steps if step.answer is not None}
    assert [step.error for step in steps if step.error is not None] == []
    assert len(answers) >= 3
    assert [answer.seq for answer in answers.values()] == list(range(len(answers)))
    last = list(answers.values())[-1]
    reasons = {rule["id"]: rule.get("reason") for rule in last.verdict.rules}
    assert "no_session" not in reasons.values()


def test_a_lerobot_loop_needs_to_change_one_line(stack: Stack, url: str, frame: NDArray[np.uint8]) -> None:
    observation = {
        "observation.images.front": (frame.astype(np.float32) / 255).transpose(2, 0, 1)[None],
        "observation.state": np.array([[0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785, 0.04]], np.float32),
        "task": INSTRUCTION,
    }
    with Client(url, stack.key, deadline_ms=30_000) as client, RemotePolicy(client, plan=Plan(max_age_s=60.0)) as policy:
        policy.reset()
        actions = [policy.select_action(observation) for _ in range(12)]
    assert {action.shape for action in actions} == {(1, 7)}
    assert np.isfinite(actions).all()
