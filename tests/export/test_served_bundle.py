"""The committed policy behind the real Triton: golden answers, batches under load, and errors that stay with their request."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from export.golden import load_golden
from export.served import AT_ONCE, TritonFailed, how_many_at_once, verify_served

BUNDLE = Path("model_repository/tabletop")
GOLDEN = load_golden(BUNDLE)
_TYPES = {"float32": "FP32", "int64": "INT64", "uint8": "UINT8"}


def _tensors(row: int, **changes: np.ndarray) -> list[triton.InferInput]:
    arrays = {name: value[[row]] for name, value in GOLDEN.inputs.items()} | changes
    tensors = []
    for name, value in arrays.items():
        tensor = triton.InferInput(name, list(value.shape), _TYPES[str(value.dtype)])
        tensor.set_data_from_numpy(value)
        tensors.append(tensor)
    return tensors


async def _ask(client: triton.InferenceServerClient, row: int, **changes: np.ndarray) -> np.ndarray:
    answer = await client.infer("tabletop", _tensors(row, **changes), client_timeout=10.0)
    return np.asarray(answer.as_numpy("action"))


async def _joint_runs(client: triton.InferenceServerClient) -> int:
    """How many runs so far answered more than one request."""
    statistics: Any = await client.get_inference_statistics("tabletop")
    return sum(one.compute_infer.count for one in statistics.model_stats[0].batch_stats if one.batch_size > 1)


def test_the_real_triton_answers_the_golden_vectors(triton_url: str) -> None:
    proof = verify_served(BUNDLE, triton_url)
    assert proof.agreements[0].max_abs_difference < 1e-5
    assert proof.largest_batch >= 1


@pytest.mark.parametrize(
    ("answer_s", "queue_s", "instances", "at_once"),
    [(0.005, 5.0, 2, AT_ONCE), (0.5, 5.0, 2, 10), (10.0, 5.0, 2, 2), (10.0, 5.0, 0, 1), (10.0, None, 1, AT_ONCE)],
)
def test_no_more_requests_are_on_their_way_than_the_queue_lets_wait(
    answer_s: float, queue_s: float | None, instances: int, at_once: int
) -> None:
    assert how_many_at_once(answer_s, queue_s, instances=instances) == at_once


def test_a_triton_that_is_not_there_is_one_line() -> None:
    with pytest.raises(TritonFailed, match=r"Triton at 127\.0\.0\.1:1: ") as refused:
        verify_served(BUNDLE, "127.0.0.1:1")
    assert "\n" not in str(refused.value)


async def test_requests_that_come_together_run_together_and_get_their_own_answers(triton_url: str) -> None:
    rows = [row % GOLDEN.count for row in range(48)]
    async with triton.InferenceServerClient(triton_url) as client:
        before = await _joint_runs(client)
        answers = await asyncio.gather(*(_ask(client, row) for row in rows))
        assert await _joint_runs(client) > before
    for row, answer in zip(rows, answers, strict=True):
        assert np.allclose(answer[0], GOLDEN.outputs["action"][row], atol=1e-5)


async def test_one_bad_request_does_not_spoil_its_neighbours(triton_url: str) -> None:
    outside_the_vocabulary = np.full_like(GOLDEN.inputs["instruction_ids"][[0]], 9999)
    async with triton.InferenceServerClient(triton_url) as client:
        bad = _ask(client, 0, instruction_ids=outside_the_vocabulary)
        *good, error = await asyncio.gather(*(_ask(client, row) for row in range(8)), bad, return_exceptions=True)
    for row, answer in enumerate(good):
        assert not isinstance(answer, BaseException)
        assert np.allclose(answer[0], GOLDEN.outputs["action"][row], atol=1e-5)
    assert isinstance(error, InferenceServerException)
    assert "model.py" not in str(error)


@pytest.mark.parametrize(
    "changes",
    [
        {"image": np.zeros((1, 64, 64, 3), dtype=np.uint8)},
        {"image": np.zeros((1, 128, 128, 3), dtype=np.float32)},
        {"state": np.zeros((1, 7), dtype=np.float32)},
        {"instruction_ids": np.zeros((1, 5), dtype=np.int64)},
    ],
    ids=["small image", "float image", "short state", "few tokens"],
)
async def test_wrong_shapes_and_types_are_errors(triton_url: str, changes: dict[str, np.ndarray]) -> None:
    async with triton.InferenceServerClient(triton_url) as client:
        with pytest.raises(InferenceServerException) as refused:
            await _ask(client, 0, **changes)
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
