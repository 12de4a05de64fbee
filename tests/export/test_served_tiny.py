"""A freshly published token policy behind the real Triton: the same tokens alone, in requests of several and in its batches."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException
from typer.testing import CliRunner

from export.__main__ import app
from export.contract.manifest import load_manifest
from export.golden import Golden, load_golden
from export.parity import ParityBroken
from export.publish import publish
from export.served import TritonFailed, verify_served
from tests.export.batched import proven_in_batches
from tests.export.tiny_policy import TinyPolicy

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    publish(TinyPolicy(folder=folder), folder / "model_repository", version=2)
    return folder / "model_repository" / "tiny"


@pytest.fixture(scope="module")
def address(serve: Callable[[Path], str], bundle: Path) -> str:
    return serve(bundle.parent)


def test_the_served_tokens_are_the_originals_in_every_kind_of_batch(bundle: Path, address: str) -> None:
    proof = proven_in_batches(bundle, address)
    shares = {one.tensor: one.share for one in proof.agreements}
    assert (shares["tokens"], shares["is_action"]) == (1.0, 1.0)
    assert all(one.examples == 64 for one in proof.agreements)
    assert proof.largest_batch > 1


def test_a_server_that_answers_something_else_is_refused(bundle: Path, address: str, tmp_path: Path) -> None:
    golden = load_golden(bundle)
    golden.outputs["tokens"][7, 3] += 1
    (tmp_path / "manifest.json").write_bytes((bundle / "manifest.json").read_bytes())
    Golden(inputs=golden.inputs, outputs=golden.outputs).save(tmp_path)
    with pytest.raises(ParityBroken, match=r"tokens: 99\.78% equal, needed 100\.00%"):
        verify_served(tmp_path, address)


def test_another_version_than_the_served_one_is_one_line(bundle: Path, address: str, tmp_path: Path) -> None:
    other = load_manifest(bundle).model_copy(update={"version": 3})
    (tmp_path / "manifest.json").write_text(other.model_dump_json())
    load_golden(bundle).save(tmp_path)
    with pytest.raises(TritonFailed, match=f"Triton at {address}: .*'tiny'") as refused:
        verify_served(tmp_path, address)
    assert "\n" not in str(refused.value)


def test_a_bad_row_fails_its_request_only_and_says_no_paths(bundle: Path, address: str) -> None:
    inputs = {name: value[:1] for name, value in load_golden(bundle).inputs.items()}
    bad = inputs | {"instruction_ids": np.full_like(inputs["instruction_ids"], 9999)}
    with triton.InferenceServerClient(address) as client:
        with pytest.raises(InferenceServerException) as refused:
            client.infer("tiny", _tensors(bad))
        answer = client.infer("tiny", _tensors(inputs))
    assert "the graph failed" in str(refused.value)
    assert str(bundle) not in str(refused.value)
    assert np.array_equal(answer.as_numpy("tokens"), load_golden(bundle).outputs["tokens"][:1])


def test_the_command_shows_every_output_and_the_batch_that_formed(bundle: Path, address: str) -> None:
    words = ["verify", "tiny", "--repository", str(bundle.parent), "--triton", address]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    assert "tokens: 100.00% equal, needed 100.00%, 64 examples" in result.stdout
    assert "largest batch that Triton formed: " in result.stdout


def _tensors(inputs: dict[str, np.ndarray]) -> list[triton.InferInput]:
    datatypes = {"uint8": "UINT8", "int64": "INT64", "float32": "FP32"}
    tensors = []
    for name, value in inputs.items():
        tensor = triton.InferInput(name, list(value.shape), datatypes[str(value.dtype)])
        tensor.set_data_from_numpy(value)
        tensors.append(tensor)
    return tensors
