"""ACT and SmolVLA through the real Triton: what LeRobot answered is what a robot gets, one by one and in Triton's own batches."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import tritonclient.grpc.aio as client

from export.contract.manifest import load_manifest
from export.served import ask
from tests.export.batched import proven_in_batches
from tests.export.lerobot_checkpoints import FIXTURES, TOLERANCE, asked, furthest

pytestmark = pytest.mark.export
BOTH = ["act_tiny", "smolvla_tiny"]


@pytest.fixture(scope="module")
def triton_address(serve: Callable[[Path], str], act_bundle: Path, smolvla_bundle: Path) -> str:
    assert act_bundle.parent == smolvla_bundle.parent
    return serve(act_bundle.parent)


@pytest.mark.parametrize("name", BOTH)
def test_the_golden_vectors_come_back_as_the_original_answered(name: str, lerobot_repository: Path, triton_address: str) -> None:
    proof = proven_in_batches(lerobot_repository / name, triton_address)
    assert all(one.is_close for one in proof.agreements)
    assert proof.largest_batch > 1


@pytest.mark.parametrize("name", BOTH)
def test_what_lerobot_answered_is_what_is_served(name: str, lerobot_repository: Path, triton_address: str) -> None:
    manifest = load_manifest(lerobot_repository / name)
    inputs, expected = asked(FIXTURES / name, manifest)

    async def served() -> object:
        async with client.InferenceServerClient(triton_address) as server:
            return (await ask(server, manifest, {key: value.numpy() for key, value in inputs.items()}))["action"]

    assert furthest(asyncio.run(served()), expected) < TOLERANCE
