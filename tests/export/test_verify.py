"""The committed bundle answers its golden vectors through its own runner; wrong answers, runners and files are refused."""

import importlib.util
import marshal
import shutil
from pathlib import Path

import numpy as np
import pytest

from export.bundle import BundleChanged, runner_path, version_folder
from export.contract.manifest import load_manifest
from export.golden import Golden, load_golden
from export.in_process import RunFailed, RunnerUnavailable, groups, open_runner, runner_file
from export.parity import worst
from export.verify import agree, verify
from tests.export.contracts import BUNDLE

pytestmark = pytest.mark.export
MANIFEST = load_manifest(BUNDLE)
VARIANT = MANIFEST.served_variant


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLE, tmp_path / "tabletop", ignore=shutil.ignore_patterns("__pycache__")))


def test_the_committed_bundle_answers_as_the_original_did() -> None:
    (found,) = verify(BUNDLE)
    assert found.tensor == "action"
    assert found.max_abs_difference < 1e-5


def test_it_is_asked_one_by_one_in_several_batches_and_all_at_once() -> None:
    golden = load_golden(BUNDLE)
    runner = open_runner(runner_path(BUNDLE, MANIFEST), version_folder(BUNDLE, MANIFEST), VARIANT)
    runs = agree(runner, golden, MANIFEST, VARIANT)
    assert len(runs) == 3
    assert [[len(rows) for rows in groups(golden.count, size)] for size in (1, 3, golden.count)] == [[1] * 12, [3] * 4, [12]]


def test_batches_mix_the_examples_and_hold_each_once() -> None:
    mixed = np.concatenate(groups(64, 16))
    assert sorted(mixed.tolist()) == list(range(64))
    assert mixed.tolist() != list(range(64))
    assert np.array_equal(mixed, np.concatenate(groups(64, 16)))


def test_a_changed_file_is_refused_before_anything_runs(copy: Path) -> None:
    (copy / "1" / "runner.py").write_text("raise SystemExit('run!')\n")
    with pytest.raises(BundleChanged, match=r"changed since export: 1/runner\.py"):
        verify(copy)


def test_facts_that_were_changed_by_hand_are_refused_before_anything_runs(copy: Path) -> None:
    text = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(text.replace('"atol": 0.0001', '"atol": 1000.0'))
    with pytest.raises(BundleChanged, match=r"changed since export: manifest\.json"):
        verify(copy)


def test_what_is_hashed_is_what_runs_not_bytecode_beside_it(copy: Path) -> None:
    runner = copy / "1" / "runner.py"
    cached = Path(importlib.util.cache_from_source(str(runner)))
    cached.parent.mkdir()
    evil = importlib.util.MAGIC_NUMBER + (0b01).to_bytes(4, "little") + bytes(8) + marshal.dumps(compile("1 / 0", "x", "exec"))
    cached.write_bytes(evil)  # "unchecked": an importer would never look at the source
    assert verify(copy)[0].is_close
    assert cached.read_bytes() == evil


def test_inputs_that_the_runner_refuses_are_named() -> None:
    golden = load_golden(BUNDLE)
    inputs = golden.inputs | {"instruction_ids": np.full_like(golden.inputs["instruction_ids"], 9999)}
    runner = open_runner(runner_path(BUNDLE, MANIFEST), version_folder(BUNDLE, MANIFEST), VARIANT)
    with pytest.raises(RunFailed, match=r"golden vectors \[0\]: "):
        worst(agree(runner, Golden(inputs=inputs, outputs=golden.outputs), MANIFEST, VARIANT))


def test_a_runner_of_another_machine_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "runner.py").write_text("import a_runtime_of_a_gpu\n")
    with pytest.raises(RunnerUnavailable, match=r"does not run here \(No module named 'a_runtime_of_a_gpu'\).*--triton"):
        open_runner(tmp_path / "runner.py", tmp_path, VARIANT)


def test_a_graph_that_this_processor_cannot_load_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(RunnerUnavailable, match="variant onnx-cpu-fp32 does not run here") as refused:
        open_runner(runner_file(VARIANT), tmp_path, VARIANT)
    assert "\n" not in str(refused.value)


def test_a_provider_that_is_not_there_is_refused_not_replaced() -> None:
    cuda = VARIANT.model_copy(update={"parameters": {"provider": "cuda"}})
    with pytest.raises(RunnerUnavailable, match="CUDAExecutionProvider is not there"):
        open_runner(runner_file(VARIANT), version_folder(BUNDLE, MANIFEST), cuda)


def test_an_unknown_runner_is_refused() -> None:
    with pytest.raises(RunnerUnavailable, match="no runner 'magic'"):
        runner_file(VARIANT.model_copy(update={"runner": "magic"}))
