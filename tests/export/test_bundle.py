"""The committed bundle is whole, and a change in any file of a bundle is noticed."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from export.bundle import BundleChanged, Golden, hashes, load_golden, refuse_changes
from export.contract.manifest import load_manifest

BUNDLE = Path("model_repository/tabletop")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLE, tmp_path / "tabletop", ignore=shutil.ignore_patterns("__pycache__")))


def test_the_committed_bundle_is_what_was_exported() -> None:
    refuse_changes(BUNDLE, load_manifest(BUNDLE))


def test_the_served_backend_and_tokenizer_are_those_of_the_source() -> None:
    assert (BUNDLE / "1" / "model.py").read_bytes() == Path("export/python_backend/model.py").read_bytes()
    assert (BUNDLE / "tokenizer.json").read_bytes() == Path("tabletop/weights/tokenizer.json").read_bytes()


@pytest.mark.parametrize("name", ["1/model.onnx", "config.pbtxt", "golden.npz"])
def test_a_changed_file_is_named(copy: Path, name: str) -> None:
    with (copy / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(BundleChanged) as refused:
        refuse_changes(copy, load_manifest(copy))
    assert refused.value.files == [name]


def test_a_missing_and_an_added_file_are_named(copy: Path) -> None:
    (copy / "golden.npz").unlink()
    (copy / "1" / "extra.bin").write_bytes(b"")
    with pytest.raises(BundleChanged) as refused:
        refuse_changes(copy, load_manifest(copy))
    assert refused.value.files == ["1/extra.bin", "golden.npz"]


def test_what_python_leaves_behind_when_triton_loads_it_is_no_change(copy: Path) -> None:
    before = hashes(copy)
    (copy / "1" / "__pycache__").mkdir()
    (copy / "1" / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"x")
    assert hashes(copy) == before


def test_golden_vectors_survive_the_file_and_are_small(tmp_path: Path) -> None:
    golden = Golden(inputs={"image": np.ones((2, 3), dtype=np.uint8)}, outputs={"action": np.zeros((2, 1), dtype=np.float32)})
    golden.save(tmp_path)
    found = load_golden(tmp_path)
    assert found.count == 2
    assert found.inputs["image"].dtype == np.uint8
    assert np.array_equal(found.outputs["action"], golden.outputs["action"])
    assert (BUNDLE / "golden.npz").stat().st_size < 500_000


def test_golden_vectors_cover_requests_with_and_without_state() -> None:
    golden = load_golden(BUNDLE)
    assert set(golden.inputs["state_mask"].ravel().tolist()) == {0.0, 1.0}
    assert golden.count >= 8
