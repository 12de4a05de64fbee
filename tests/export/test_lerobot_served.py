"""ACT and SmolVLA through the real Triton: what LeRobot answered is what a robot gets, one by one and in Triton's own batches."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import tritonclient.grpc.aio as client

from deploy.embedded import child
from deploy.embedded.canary import expected_shapes
from deploy.embedded.server import Port, wait_until_ready
from deploy.embedded.triton import Triton, installation_in, triton
from export.contract.manifest import load_manifest
from export.served import ask, verify_served
from tests.export.lerobot_checkpoints import FIXTURES, TOLERANCE, asked, furthest

pytestmark = pytest.mark.export
BOTH = ["act_tiny", "smolvla_tiny"]


def _free_port() -> Port:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Port(number=probe.getsockname()[1], setting="(picked by the test)")


@pytest.fixture(scope="module")
def triton_address(lerobot_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Triton of these tests' own, ready: both policies have answered zeros in the right shape."""
    folder = tmp_path_factory.mktemp("triton")
    plan = Triton(
        installation=installation_in(Path(os.environ.get("VLA_TRITON_VENV", ".venv-triton")).absolute()),
        repository=lerobot_repository,
        expected=expected_shapes(lerobot_repository),
        scratch=folder / "scratch",
        links=folder / "links",
        grpc=_free_port(),
        http=_free_port(),
        metrics=_free_port(),
    )
    server = triton(plan, environment={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"})
    server.prepare()
    process = child.spawn(server, log=folder / "triton.log")
    try:
        asyncio.run(wait_until_ready(server, process.pid, is_alive=lambda: process.poll() is None))
        yield plan.url
    finally:
        child.stop(server, process)


@pytest.mark.parametrize("name", BOTH)
def test_the_golden_vectors_come_back_as_the_original_answered(name: str, lerobot_repository: Path, triton_address: str) -> None:
    proof = verify_served(lerobot_repository / name, triton_address)
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
