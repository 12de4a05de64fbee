"""Requests are the golden vectors; a full queue is an outcome, everything else that goes wrong ends in one line."""

from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from export.benchmark.failure import BadRange, TritonFailed
from export.benchmark.requests import Served, bodies
from export.contract.manifest import load_manifest
from export.golden import load_golden
from tests.export.benchmark.slow_triton import FULL, SlowTriton, serving

BUNDLE = Path("model_repository/tabletop")
MANIFEST, GOLDEN = load_manifest(BUNDLE), load_golden(BUNDLE)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def test_a_batch_holds_examples_in_turn_and_around_the_corner() -> None:
    requests = [service_pb2.ModelInferRequest.FromString(body) for body in bodies(MANIFEST, GOLDEN.inputs, 3)]
    assert len(requests) == GOLDEN.count
    last = dict(zip([one.name for one in requests[-1].inputs], requests[-1].raw_input_contents, strict=True))
    expected = GOLDEN.inputs["state"][[-1, 0, 1]]
    assert np.frombuffer(last["state"], np.float32).tolist() == expected.ravel().tolist()
    assert [list(one.shape) for one in requests[0].inputs if one.name == "image"] == [[3, 128, 128, 3]]


async def test_a_request_names_the_policy_and_its_version() -> None:
    servicer = SlowTriton()
    async with serving(servicer):
        served = Served(servicer.address, MANIFEST)
        assert await served.open(GOLDEN.inputs, 1) == "2.51.0"
        answer = await served.send()
        await served.close()
    assert answer.refusal is None
    assert answer.sent_s <= answer.handed_s <= answer.answered_s <= answer.done_s
    assert (servicer.asked[0].model_name, servicer.asked[0].model_version) == ("tabletop", "1")


@pytest.mark.parametrize(
    ("details", "reason"), [(FULL, "queue full"), ("[request id: <id_unknown>] Request timeout expired", "late in the queue")]
)
async def test_what_the_queue_refuses_is_an_outcome(details: str, reason: str) -> None:
    servicer = SlowTriton(fails=lambda _: (UNAVAILABLE, details))
    async with serving(servicer):
        served = Served(servicer.address, MANIFEST)
        await served.open(GOLDEN.inputs, 1)
        assert (await served.send()).refusal == reason
        await served.close()


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        ((grpc.StatusCode.NOT_FOUND, "Request for unknown model"), "does not serve tabletop 1"),
        ((grpc.StatusCode.INTERNAL, "Traceback …\n  File /a/path"), "INTERNAL: Traceback"),
        ((UNAVAILABLE, "Socket closed"), "no Triton answers gRPC"),
    ],
)
async def test_everything_else_ends_in_one_line(failure: tuple[grpc.StatusCode, str], words: str) -> None:
    servicer = SlowTriton(fails=lambda _: failure)
    async with serving(servicer):
        served = Served(servicer.address, MANIFEST)
        await served.open(GOLDEN.inputs, 1)
        with pytest.raises(TritonFailed, match=words) as failed:
            await served.send()
        await served.close()
    assert "\n" not in str(failed.value)


async def test_success_without_data_is_no_answer() -> None:
    servicer = SlowTriton(output=b"")
    async with serving(servicer):
        served = Served(servicer.address, MANIFEST)
        await served.open(GOLDEN.inputs, 1)
        with pytest.raises(TritonFailed, match="empty tensors"):
            await served.send()
        await served.close()


async def test_a_batch_that_the_policy_does_not_take_is_refused() -> None:
    servicer = SlowTriton(max_batch_size=8)
    async with serving(servicer):
        served = Served(servicer.address, MANIFEST)
        with pytest.raises(BadRange, match="batch size 9: tabletop takes 1 to 8"):
            await served.open(GOLDEN.inputs, 9)
        await served.close()


async def test_nobody_there_is_said_in_one_line() -> None:
    served = Served("127.0.0.1:1", MANIFEST)
    with pytest.raises(TritonFailed, match="no Triton answers gRPC at 127\\.0\\.0\\.1:1") as failed:
        await served.open(GOLDEN.inputs, 1)
    await served.close()
    assert "\n" not in str(failed.value)


def test_examples_beyond_the_first_64_are_left_out() -> None:
    many = {name: np.concatenate([value] * 20) for name, value in GOLDEN.inputs.items()}
    assert len(bodies(MANIFEST, replace(GOLDEN, inputs=many).inputs, 1)) == 64
