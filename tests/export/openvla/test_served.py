"""The reference checkpoint, published and behind the real Triton: the original's tokens come back, also from mixed batches."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from export.benchmark.own_triton import serving
from export.contract.manifest import load_manifest
from export.verify import verify
from tests.export.batched import proven_in_batches
from tests.export.openvla.conftest import Arrays, Reference
from tests.export.openvla_checkpoint import PAD

pytestmark = [pytest.mark.export, pytest.mark.timeout(400)]  # the first to ask exports two checkpoints
ROOT = Path(__file__).resolve().parents[3]
_TYPES = {"int64": "INT64", "uint8": "UINT8"}


@pytest.fixture(scope="module")
def triton_address(repository: Path) -> Iterator[str]:
    """The real Triton over that repository; ready means that the policies have answered zeros."""
    scratch = Path(tempfile.mkdtemp(prefix="vla-openvla-", dir="/tmp"))
    with serving(repository, Path(os.environ.get("VLA_TRITON_VENV", ROOT / ".venv-triton")), scratch) as address:
        yield address
    shutil.rmtree(scratch)


def _tensors(inputs: Arrays, row: int) -> list[triton.InferInput]:
    tensors = []
    for name, value in inputs.items():
        tensor = triton.InferInput(name, [1, *value.shape[1:]], _TYPES[str(value.dtype)])
        tensor.set_data_from_numpy(value[[row]])
        tensors.append(tensor)
    return tensors


async def _ask(client: triton.InferenceServerClient, inputs: Arrays, row: int) -> Any:
    return await client.infer("tiny", _tensors(inputs, row), client_timeout=30.0)


async def _joint_runs(client: triton.InferenceServerClient) -> int:
    statistics: Any = await client.get_inference_statistics("tiny")
    return sum(one.compute_infer.count for one in statistics.model_stats[0].batch_stats if one.batch_size > 1)


def test_published_bundles_are_proven_again_in_process_and_served(repository: Path, triton_address: str) -> None:
    for name in ("tiny", "odd"):
        folder = repository / name
        assert load_manifest(folder).served_variant.token_agreement == 1.0
        verify(folder)
        assert proven_in_batches(folder, triton_address).largest_batch > 1


async def test_the_real_triton_gives_the_original_s_tokens_and_actions(triton_address: str, reference: Reference) -> None:
    async with triton.InferenceServerClient(triton_address) as client:
        answers = [await _ask(client, reference.inputs, row) for row in range(len(reference.cases))]
    assert [answer.as_numpy("action_tokens")[0].tolist() for answer in answers] == reference.tokens.tolist()
    assert np.abs(np.stack([answer.as_numpy("action")[0, 0] for answer in answers]) - reference.actions).max() < 1e-6
    assert all(answer.as_numpy("is_action_token").min() == 1 for answer in answers)


async def test_requests_of_mixed_length_run_together_and_get_their_own_tokens(triton_address: str, reference: Reference) -> None:
    lengths = {int((ids != PAD).sum()) for ids in reference.inputs["instruction_ids"]}
    assert len(lengths) > 1
    rows = list(range(len(reference.cases))) * 3
    async with triton.InferenceServerClient(triton_address) as client:
        before = await _joint_runs(client)
        answers = await asyncio.gather(*(_ask(client, reference.inputs, row) for row in rows))
        assert await _joint_runs(client) > before
    assert [answer.as_numpy("action_tokens")[0].tolist() for answer in answers] == reference.tokens[rows].tolist()


async def test_a_bad_request_does_not_spoil_its_neighbours(triton_address: str, reference: Reference) -> None:
    bad = {name: value[:1].copy() for name, value in reference.inputs.items()}
    bad["unnorm_index"][0, 0] = 99
    async with triton.InferenceServerClient(triton_address) as client:
        asked = [*(_ask(client, reference.inputs, row) for row in range(6)), _ask(client, bad, 0)]
        answers: list[Any] = await asyncio.gather(*asked, return_exceptions=True)
    *good, error = answers
    assert [answer.as_numpy("action_tokens")[0].tolist() for answer in good] == reference.tokens[:6].tolist()
    assert isinstance(error, InferenceServerException)
