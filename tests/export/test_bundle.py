"""The committed bundle is whole, and a change in any file of a bundle is noticed."""

import json
import shutil
from pathlib import Path

import pytest

from export.bundle import BundleChanged, hashes, refuse_changes, with_data_files
from export.contract.manifest import ManifestError, load_manifest

BUNDLE = Path("model_repository/tabletop")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLE, tmp_path / "tabletop", ignore=shutil.ignore_patterns("__pycache__")))


def test_the_committed_bundle_is_what_was_exported() -> None:
    refuse_changes(BUNDLE, load_manifest(BUNDLE))


def test_the_served_backend_and_tokenizer_are_those_of_the_source() -> None:
    assert (BUNDLE / "1" / "model.py").read_bytes() == Path("export/python_backend/model.py").read_bytes()
    assert (BUNDLE / "1" / "runner.py").read_bytes() == Path("export/python_backend/onnx_graph.py").read_bytes()
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


@pytest.mark.parametrize("name", ["MODEL_CARD.md", "benchmark.json", "evaluation.json"])
def test_measurements_may_be_written_after_export(copy: Path, name: str) -> None:
    (copy / name).write_text("{}")
    refuse_changes(copy, load_manifest(copy))


@pytest.mark.parametrize(
    ("place", "value"), [("version", 2), ("robots", ["ur5e"]), ("description", "Another."), ("policy", "tabletop")]
)
def test_a_fact_that_was_changed_by_hand_is_noticed(copy: Path, place: str, value: object) -> None:
    """Also where the text alone is another: nobody needs to write it but the exporter."""
    facts = json.loads((copy / "manifest.json").read_text()) | {place: value}
    (copy / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(BundleChanged) as refused:
        refuse_changes(copy, load_manifest(BUNDLE))
    assert refused.value.files == ["manifest.json"]


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"manifest_sha256": 1}', "[" * 100_000])
def test_a_manifest_that_no_proofs_are_of_is_not_believed(copy: Path, text: str | None) -> None:
    (copy / "parity.json").unlink()
    if text is not None:
        (copy / "parity.json").write_text(text)
    with pytest.raises(BundleChanged, match=r"changed since export: parity\.json; export the policy again"):
        refuse_changes(copy, load_manifest(copy))


def test_a_folder_that_is_not_called_as_its_policy_is_refused(copy: Path) -> None:
    other = copy.rename(copy.with_name("other"))
    with pytest.raises(ManifestError, match="its manifest is of the policy 'tabletop': give the folder that name"):
        refuse_changes(other, load_manifest(other))


def test_a_file_is_hashed_in_chunks(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(range(256)) * 12_345)
    assert hashes(tmp_path) == {"weights.bin": "84cbbbdbeb23cc382ee49063efee16fe3d6ee0b9faecd998bd39d219c6729259"}


def test_weights_beside_a_graph_belong_to_its_variant(copy: Path) -> None:
    (copy / "1" / "model.onnx.data").write_bytes(b"weights")
    manifest = load_manifest(copy)
    assert with_data_files(manifest, copy / "1").served_variant.files == ("model.onnx", "model.onnx.data")
    (copy / "1" / "model.onnx").unlink()
    with pytest.raises(ManifestError, match=r"variants\[onnx-cpu-fp32\]\.files: model\.onnx was not written"):
        with_data_files(manifest, copy / "1")
