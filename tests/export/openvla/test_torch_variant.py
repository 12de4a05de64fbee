"""PyTorch programs of a bundle decode like its graphs; what is not good enough leaves the bundle as it was."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from export.__main__ import app
from export.contract.manifest import load_manifest
from export.golden import Golden, load_golden
from export.python_backend.torch_decode import Runner
from export.verify import verify
from tests.export.openvla.conftest import odd_shape
from tests.export.openvla.test_decode import OUTPUTS
from tests.export.openvla_checkpoint import PAD, write_checkpoint

pytestmark = [pytest.mark.export, pytest.mark.timeout(400)]  # the first to ask exports two checkpoints


def _build(repository: Path, checkpoint: Path, *words: str) -> tuple[int, str]:
    asked = ["build-torch", "odd", "--checkpoint", str(checkpoint), "--repository", str(repository), *words]
    result = CliRunner().invoke(app, asked)
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def with_torch(repository: Path, odd_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The odd bundle, also as PyTorch programs in float32 for the CPU."""
    folder = tmp_path_factory.mktemp("torch")
    shutil.copytree(repository / "odd", folder / "odd")
    code, said = _build(folder, odd_checkpoint, "--cpu", "--precision", "fp32")
    assert code == 0, said
    return folder


@pytest.fixture(scope="module")
def runner(with_torch: Path) -> Runner:
    return Runner(with_torch / "odd" / "1", load_manifest(with_torch / "odd").served_variant.parameters)


@pytest.fixture(scope="module")
def golden(repository: Path) -> Golden:
    return load_golden(repository / "odd")


def test_the_programs_are_served_and_proven(with_torch: Path) -> None:
    manifest = load_manifest(with_torch / "odd")
    assert (manifest.served, manifest.served_variant.token_agreement) == ("torch-cpu-fp32", 1.0)
    assert [variant.name for variant in manifest.variants] == ["onnx-cpu-fp32", "torch-cpu-fp32"]
    assert (with_torch / "odd" / "1" / "runner.py").read_text().startswith('"""Runs OpenVLA\'s three programs with PyTorch')
    assert all(one.is_close for one in verify(with_torch / "odd"))


def test_a_batch_larger_than_any_graph_is_answered_in_parts(runner: Runner, golden: Golden) -> None:
    some = {name: value[:19] for name, value in golden.inputs.items()}
    _, tokens, is_action, *_ = runner.run(some, OUTPUTS)
    assert tokens.tolist() == golden.outputs["action_tokens"][:19].tolist()
    assert is_action.tolist() == golden.outputs["is_action_token"][:19].tolist()


@pytest.mark.parametrize(("name", "value"), [("instruction_ids", 32064), ("instruction_ids", -1), ("unnorm_index", 1)])
def test_ids_that_mean_nothing_never_reach_the_device(runner: Runner, golden: Golden, name: str, value: int) -> None:
    some = {key: one[:1].copy() for key, one in golden.inputs.items()}
    some[name][0, 0] = value
    with pytest.raises(ValueError, match=name):
        runner.run(some, OUTPUTS)


def test_nothing_but_padding_is_answered(runner: Runner, golden: Golden) -> None:
    some = {key: one[:1].copy() for key, one in golden.inputs.items()}
    some["instruction_ids"][:] = PAD
    assert np.isfinite(runner.run(some, ("action",))[0]).all()


def test_a_precision_that_loses_tokens_changes_nothing(with_torch: Path, odd_checkpoint: Path) -> None:
    """Random weights have near ties, so bf16 turns more than a trained network's would: 100 % is not reached."""
    before = (with_torch / "odd" / "manifest.json").read_bytes()
    code, said = _build(with_torch, odd_checkpoint, "--cpu", "--least-agreement", "1.0")
    assert code == 1
    assert "torch-cpu-bf16" in said
    assert "100% are needed" in said
    assert (with_torch / "odd" / "manifest.json").read_bytes() == before
    assert all(one.is_close for one in verify(with_torch / "odd"))


def test_another_checkpoint_is_refused(with_torch: Path, openvla_tiny: Path) -> None:
    code, said = _build(with_torch, openvla_tiny, "--cpu")
    assert code == 1
    assert "unknown unnorm key" in said


def test_other_weights_of_the_same_shape_are_refused(with_torch: Path, tmp_path: Path) -> None:
    """Also with statistics that are the same, where nothing but the weights' own hashes tells them apart."""
    before = (with_torch / "odd" / "manifest.json").read_bytes()
    other = write_checkpoint(tmp_path / "other", odd_shape(seed=99))
    code, said = _build(with_torch, other, "--cpu", "--precision", "fp32", "--least-agreement", "0.5")
    assert (code, said.count("\n")) == (1, 1)
    assert "its weights are not those that" in said
    assert (with_torch / "odd" / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("share", ["0", "0.49", "nan", "1.1", "-inf"])
def test_nobody_may_ask_for_too_few_tokens(share: str, with_torch: Path, odd_checkpoint: Path) -> None:
    code, said = _build(with_torch, odd_checkpoint, "--cpu", "--least-agreement", share)
    assert code == 2
    assert "must be from 0.5 to 1" in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_without_a_gpu_the_command_says_what_is_missing(with_torch: Path, odd_checkpoint: Path) -> None:
    code, said = _build(with_torch, odd_checkpoint)
    assert code == 1
    assert "finds no CUDA device" in said


@pytest.mark.gpu
def test_a_cuda_graph_answers_as_the_original(repository: Path, odd_checkpoint: Path, golden: Golden, tmp_path: Path) -> None:
    shutil.copytree(repository / "odd", tmp_path / "odd")
    code, said = _build(tmp_path, odd_checkpoint, "--precision", "fp32")
    assert code == 0, said
    runner = Runner(tmp_path / "odd" / "1", load_manifest(tmp_path / "odd").served_variant.parameters)
    for rows in (slice(0, 1), slice(0, 3), slice(0, 19)):
        _, tokens, *_ = runner.run({name: value[rows] for name, value in golden.inputs.items()}, OUTPUTS)
        assert tokens.tolist() == golden.outputs["action_tokens"][rows].tolist()
