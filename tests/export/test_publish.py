"""Publishing is all or nothing: a policy whose graph differs, or an export that is killed, never changes what is served."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export.bundle import BundleChanged, hashes, refuse_changes
from export.contract.manifest import Manifest, ManifestError, load_manifest
from export.contract.runtime import Plan, PlannedGraph, ShapeRange
from export.golden import GoldenUnfit, load_golden
from export.in_process import RunnerUnavailable
from export.parity import ParityBroken
from export.place import PlaceRefused
from export.proof import load_proofs
from export.publish import publish, revise, serve_variant
from export.verify import verify
from tests.export.tiny_policy import Fault, TinyPolicy

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the tiny policy and its two variants, published once for all tests that only look at it."""
    folder = tmp_path_factory.mktemp("made")
    publish(TinyPolicy(folder=folder, low_precision=True), folder / "model_repository", version=3)
    return folder / "model_repository"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository in a folder of its own: nothing else may appear beside it."""
    return tmp_path / "inner" / "model_repository"


OLDER = {"schema_version": 1, "policy": "tiny", "family": "tiny", "version": 3, "source": {"sha256": {"3/model.onnx": "0"}}}


def bundle_in(repository: Path) -> Path:
    """A bundle that stands for what is served."""
    folder = repository / "tiny"
    (folder / "3").mkdir(parents=True)
    (folder / "3" / "model.onnx").write_bytes(b"served")
    (folder / "manifest.json").write_text(json.dumps(OLDER))
    return folder


def test_a_bundle_is_published_whole(made: Path) -> None:
    folder = made / "tiny"
    manifest = load_manifest(folder)
    refuse_changes(folder, manifest)
    assert manifest.version == 3
    assert {"config.pbtxt", "golden.npz", "tokenizer.json", "3/model.onnx", "3/model.py", "3/runner.py"} <= set(
        manifest.source.sha256
    )
    assert (folder / "3" / "runner.py").read_bytes() == Path("export/python_backend/onnx_graph.py").read_bytes()
    assert "| `tokens` | 64 | 100.00% equal | 100% |" in (folder / "MODEL_CARD.md").read_text()
    assert all(one.is_close for one in verify(folder))


def test_a_token_policy_warms_up_with_its_first_golden_example(made: Path) -> None:
    examples = load_golden(made / "tiny").inputs
    assert {path.name: path.read_bytes() for path in (made / "tiny" / "warmup").iterdir()} == {
        name: value[0].tobytes() for name, value in examples.items()
    }
    assert "input_data_file" in (made / "tiny" / "config.pbtxt").read_text()


def test_the_share_of_tokens_that_a_lower_precision_keeps_is_recorded(made: Path) -> None:
    exact, lower = load_manifest(made / "tiny").variants
    assert exact.token_agreement == 1.0
    assert lower.token_agreement is not None
    assert 0.85 < lower.token_agreement < 1.0
    (share,) = [one.share for one in load_proofs(made / "tiny")["onnx-cpu-bf16"] if one.tensor == "tokens"]
    assert share == lower.token_agreement
    assert f"{lower.token_agreement:.2%}" in (made / "tiny" / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize(("fault", "named"), [(Fault.ACTION_OFF, "action: 0.001 off"), (Fault.PADDING_SEEN, "tokens: ")])
def test_a_graph_that_differs_is_not_published_and_nothing_changes(
    fault: Fault, named: str, repository: Path, tmp_path: Path
) -> None:
    served = hashes(bundle_in(repository))
    with pytest.raises(ParityBroken, match=named):
        publish(TinyPolicy(folder=tmp_path, fault=fault), repository, version=4)
    assert hashes(repository / "tiny") == served
    assert [path.name for path in repository.iterdir()] == ["tiny"]
    assert [path.name for path in repository.parent.iterdir()] == ["model_repository"]


def test_too_few_pairs_prove_nothing_about_tokens(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(GoldenUnfit, match="63 different image/instruction pairs, a token policy needs 64"):
        publish(TinyPolicy(folder=tmp_path, pairs=63), repository, version=1)
    assert list(repository.iterdir()) == []


def test_a_fact_that_contradicts_is_one_line_before_any_work(repository: Path, tmp_path: Path) -> None:
    policy = TinyPolicy(folder=tmp_path, changes={"policy": "../x", "robots": []})
    with pytest.raises(ManifestError, match=r"policy: .*; robots: ") as refused:
        publish(policy, repository, version=1)
    assert "\n" not in str(refused.value)
    assert not repository.exists()


def test_a_file_that_a_variant_lists_must_have_been_written(repository: Path, tmp_path: Path) -> None:
    variant = {"name": "a", "precision": "fp32", "runner": "onnx_graph", "files": ["model.onnx", "weights.bin"]}
    policy = TinyPolicy(folder=tmp_path, changes={"variants": [variant], "served": "a"})
    with pytest.raises(ManifestError, match=r"variants\[a\]\.files: weights\.bin was not written"):
        publish(policy, repository, version=1)


def test_an_export_that_is_killed_changes_nothing_and_the_next_one_cleans_up(repository: Path, tmp_path: Path) -> None:
    served = hashes(bundle_in(repository))
    command = [sys.executable, "-m", "tests.export.tiny_policy", str(tmp_path), str(repository)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as export:
        assert export.stdout is not None
        assert export.stdout.readline() == "in the middle\n"
        with pytest.raises(PlaceRefused, match="another export of 'tiny' is at work"):
            publish(TinyPolicy(folder=tmp_path), repository, version=4)
        export.send_signal(signal.SIGKILL)
    assert hashes(repository / "tiny") == served
    assert [path.name for path in repository.parent.glob(".*")] == [".tiny.exporting"]

    publish(TinyPolicy(folder=tmp_path), repository, version=4)
    assert load_manifest(repository / "tiny").version == 4
    assert [path.name for path in repository.parent.iterdir()] == ["model_repository"]
    assert [path.name for path in repository.iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("changes", "version", "said"),
    [
        ({"family": "act"}, 4, "holds a policy of family act, not tiny: choose another --name or remove it"),
        ({}, 2, "holds version 3: give it again with --version, or a later one, or remove it"),
    ],
)
def test_another_family_and_a_later_version_are_not_replaced(
    changes: dict[str, object], version: int, said: str, repository: Path, tmp_path: Path
) -> None:
    folder = bundle_in(repository)
    (folder / "manifest.json").write_text(json.dumps(OLDER | changes))
    before = hashes(folder)
    with pytest.raises(PlaceRefused, match=said) as refused:
        publish(TinyPolicy(folder=tmp_path), repository, version=version)
    assert "\n" not in str(refused.value)
    assert hashes(folder) == before
    assert [path.name for path in repository.parent.iterdir()] == ["model_repository"]


def test_a_revision_adds_a_variant_as_a_whole_or_not_at_all(made: Path) -> None:
    folder = made / "tiny"
    before = hashes(folder)

    def add(fresh: Path, name: str, precision: str) -> Manifest:
        (fresh / "3" / "more.onnx").write_bytes((fresh / "3" / "low.onnx").read_bytes())
        manifest = load_manifest(fresh)
        variant = manifest.variants[1].model_copy(
            update={"name": name, "precision": precision, "files": ("more.onnx",), "parameters": {"graph": "more.onnx"}}
        )
        return manifest.model_copy(update={"variants": (*manifest.variants, variant)})

    with pytest.raises(ParityBroken, match="tokens"):
        revise(folder, lambda fresh: add(fresh, "wrong", "fp32"))
    assert hashes(folder) == before

    revise(folder, lambda fresh: add(fresh, "onnx-cpu-fp16", "fp16"))
    found = load_manifest(folder)
    assert [variant.name for variant in found.variants] == ["onnx-cpu-fp32", "onnx-cpu-bf16", "onnx-cpu-fp16"]
    assert found.variants[2].token_agreement == found.variants[1].token_agreement
    assert {name: digest for name, digest in found.source.sha256.items() if name in before} == before
    assert all(one.is_close for one in verify(folder))


@pytest.mark.parametrize("name", ["tokenizer.json", "3/low.onnx", "golden.npz", "manifest.json"])
def test_a_revision_never_makes_a_damaged_bundle_valid(name: str, made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made / "tiny", tmp_path / "models" / "tiny"))
    with (folder / name).open("ab") as file:
        file.write(b"\n")
    before = (folder / "manifest.json").read_bytes()

    def never(fresh: Path) -> Manifest:
        raise AssertionError(f"{fresh} was changed")

    with pytest.raises(BundleChanged, match=f"changed since export: {name}"):
        revise(folder, never)
    assert (folder / "manifest.json").read_bytes() == before


def test_another_variant_is_served_and_the_first_one_again(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made / "tiny", tmp_path / "inner" / "tiny"))
    first = (folder / "config.pbtxt").read_text()
    tokens = next(one for one in serve_variant(folder, "onnx-cpu-bf16") if one.tensor == "tokens")
    assert 0.9 < (tokens.share or 0.0) < 1.0
    assert load_manifest(folder).served == "onnx-cpu-bf16"
    assert 'value { string_value: "low.onnx" }' in " ".join((folder / "config.pbtxt").read_text().split())
    assert "| `onnx-cpu-bf16` | bf16 | onnx_graph, `low.onnx` | " in (folder / "MODEL_CARD.md").read_text()
    serve_variant(folder, "onnx-cpu-fp32")
    assert (folder / "config.pbtxt").read_text() == first
    assert all(one.is_close for one in verify(folder))


def test_a_plan_that_falls_behind_what_was_played_before_it_was_built_is_refused(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made / "tiny", tmp_path / "inner" / "tiny"))
    before, shape = hashes(folder), ShapeRange(min=(1,), opt=(1,), max=(16,))
    graph = PlannedGraph(
        file="low.onnx", profiles=({"unnorm_index": shape},), onnx_sha256="a" * 64, bytes=1, precision_layers={"bf16": 1}
    )
    plan = Plan(flavour="tensorrt", version="11.1.0.106", gpu="NVIDIA H200", compute_capability="9.0", graphs=(graph,))

    def add(fresh: Path) -> Manifest:
        manifest = load_manifest(fresh)
        planned = manifest.variants[1].model_copy(update={"name": "planned", "plan": plan, "token_agreement": 1.0})
        return manifest.model_copy(update={"variants": (*manifest.variants, planned)})

    with pytest.raises(ParityBroken, match=r"tokens: 9\d\.\d\d% equal, needed 98\.00%"):
        revise(folder, add)
    assert hashes(folder) == before


def test_what_is_served_is_proven_here_and_not_believed(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(made / "tiny", tmp_path / "inner" / "tiny"))
    before = hashes(folder)
    assert "onnx-cpu-bf16" in load_proofs(folder)

    def unavailable(*_: object) -> None:
        raise RunnerUnavailable("variant onnx-cpu-bf16 does not run here")

    monkeypatch.setattr("export.proof.open_runner", unavailable)
    with pytest.raises(RunnerUnavailable):
        serve_variant(folder, "onnx-cpu-bf16")
    assert hashes(folder) == before


def test_a_variant_that_is_not_there_is_named_with_those_that_are(made: Path) -> None:
    with pytest.raises(ManifestError, match="has no variant 'onnx-cuda'; it has onnx-cpu-fp32, onnx-cpu-bf16"):
        serve_variant(made / "tiny", "onnx-cuda")
