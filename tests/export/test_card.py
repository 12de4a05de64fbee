"""The card shows what lies in the bundle, measured on this very graph, or says that it was not measured."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from export.card import text_of
from export.contract.manifest import load_manifest
from export.parity import Agreement
from export.proof import save_proofs
from tests.export.contracts import BUNDLE, manifest, speaking

MANIFEST = load_manifest(BUNDLE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shipped manifest alone."""
    shutil.copy(BUNDLE / "manifest.json", tmp_path)
    return tmp_path


def evaluation(folder: Path, model_sha256: str) -> None:
    row = {"name": "state sent", "episodes": 10, "lifted_named": 9, "lifted_wrong": 0, "mean_steps": 21.5}
    found = {
        "model_sha256": model_sha256,
        "first_seed": 9,
        "max_steps": 120,
        "closed_loop": [row],
        "first_motion": [{"name": "no state", "right": 29, "asked": 30}],
        "training": ["So many steps."],
        "limits": ["Three cubes."],
    }
    (folder / "evaluation.json").write_text(json.dumps(found))


def benchmark(**changes: Any) -> dict[str, Any]:
    """What `vlaapi export benchmark` writes, as far as the card reads it, and something more."""
    latency = {"avg_us": 1.0, "p50_us": 21_030.0, "p90_us": 25_000.0, "p95_us": 1.0, "p99_us": 31_000.0}
    level = {"mode": "concurrency", "value": 8, "is_stable": True, "figures": {"inferences_per_s": 44.25, "latency": latency}}
    whole = {
        "schema_version": 1,
        "policy": "tabletop",
        "version": 1,
        "variant": "onnx-cpu-fp32",
        "measured_at": "2026-11-23T18:00:00Z",
        "machine": {"cpu": "EPYC", "cpus": 2, "system": "Linux"},
        "levels": [level],
    }
    return whole | changes


def test_measured_numbers_of_this_graph_are_shown(folder: Path) -> None:
    evaluation(folder, MANIFEST.source.sha256["1/model.onnx"])
    text = text_of(folder)
    assert "| state sent | 9 / 10 | 59.6 to 98.2 % | 0 | 21.5 |" in text
    assert "| no state | 29 / 30 |" in text
    assert "- Three cubes." in text


def test_numbers_of_another_graph_are_not_shown(folder: Path) -> None:
    evaluation(folder, "0" * 64)
    assert "Not measured for this graph." in text_of(folder)
    assert "9 / 10" not in text_of(folder)


def test_a_benchmark_of_this_version_is_shown_in_milliseconds(folder: Path) -> None:
    (folder / "benchmark.json").write_text(json.dumps(benchmark()))
    text = text_of(folder)
    assert "variant `onnx-cpu-fp32`, 2026-11-23T18:00:00Z, EPYC (2 cores)" in text
    assert "| 8 clients | 44.2 | 21.03 | 25.00 | 31.00 | yes |" in text


@pytest.mark.parametrize(
    ("mode", "value", "said"),
    [
        ("concurrency", 1, "1 client"),
        ("concurrency", 2, "2 clients"),
        ("request_rate", 1, "1 request/s"),
        ("request_rate", 2.5, "2.5 requests/s"),
    ],
)
def test_one_is_singular(mode: str, value: float, said: str, folder: Path) -> None:
    whole = benchmark()
    whole["levels"][0] |= {"mode": mode, "value": value}
    (folder / "benchmark.json").write_text(json.dumps(whole))
    assert f"| {said} | 44.2 |" in text_of(folder)


@pytest.mark.parametrize(
    ("count", "row", "limit"), [(1, "| Camera | `", "the camera above"), (2, "| Cameras | `", "the cameras above")]
)
def test_one_camera_is_singular_too(count: int, row: str, limit: str, folder: Path) -> None:
    facts = json.loads(MANIFEST.model_dump_json())
    facts["cameras"] = [facts["cameras"][0] | {"name": f"c{index}", "tensor": f"c{index}"} for index in range(count)]
    (folder / "manifest.json").write_text(manifest(facts).model_dump_json())
    assert row in text_of(folder)
    assert limit in text_of(folder)


def test_numbers_that_are_not_scaled_and_means_are_not_given_as_a_range(folder: Path) -> None:
    facts = speaking()
    spread = {"scheme": "mean_std", "mean": [0.5] * 7, "std": [2.0] * 7, "mask": [False] + [True] * 6}
    facts["action"]["statistics"]["fractal"] = spread
    (folder / "manifest.json").write_text(manifest(facts).model_dump_json())
    text = text_of(folder)
    assert f"| `bridge` | bounds_q99 | {'-0.1, ' * 6}as it is | {'0.2, ' * 6}as it is |" in text
    assert f"| unnorm_key | scheme | mean | std |\n|---|---|---|---|\n| `fractal` | mean_std | as it is{', 0.5' * 6} |" in text
    assert f"| as it is{', 2' * 6} |" in text


def test_a_variant_that_did_not_run_here_is_not_passed_over(folder: Path) -> None:
    facts = speaking()
    facts["variants"].append({"name": "trt", "precision": "bf16", "runner": "tensorrt_engine", "files": ["model.plan"]})
    (folder / "manifest.json").write_text(manifest(facts).model_dump_json())
    save_proofs(folder, {"onnx-cpu-fp32": (Agreement(tensor="action", max_abs_difference=2e-7, atol=1e-5, examples=64),)})
    assert "| `trt` | – | – | not proven here | – |" in text_of(folder)


OTHERS = [json.dumps(benchmark(version=2)), json.dumps(benchmark(schema_version=2)), json.dumps(benchmark(policy="x"))]


@pytest.mark.parametrize("text", ["", "[]", '{"levels": 1}', *OTHERS])
def test_a_benchmark_of_another_version_or_shape_is_not_shown(text: str, folder: Path) -> None:
    (folder / "benchmark.json").write_text(text)
    assert "Not measured for this version." in text_of(folder)


def test_without_measurements_it_says_so(folder: Path) -> None:
    text = text_of(folder)
    for said in ("Not measured for this graph.", "Not measured for this version.", "Not proven: `parity.json` is missing."):
        assert said in text


@pytest.mark.parametrize("text", ["", "[]", '{"onnx-cpu-fp32": [{"tensor": "action"}]}'])
def test_a_proof_that_is_not_what_was_written_proves_nothing(text: str, folder: Path) -> None:
    (folder / "parity.json").write_text(text)
    assert "Not proven" in text_of(folder)


def test_parity_is_shown_per_variant_and_output_with_tokens_and_pairs(folder: Path) -> None:
    low = {"name": "trt", "precision": "bf16", "runner": "tensorrt_engine", "files": ["model.plan"], "token_agreement": 0.98}
    facts = speaking()
    facts["variants"].append(low)
    (folder / "manifest.json").write_text(manifest(facts).model_dump_json())
    action = Agreement(tensor="action", max_abs_difference=2e-7, atol=1e-5, examples=64)
    tokens = Agreement(tensor="tokens", max_abs_difference=3, atol=0, examples=64, share=0.98, needed_share=0.0)
    save_proofs(folder, {"onnx-cpu-fp32": (action,), "trt": (tokens,)})
    text = text_of(folder)
    assert "on 64 golden examples" in text
    assert "| `onnx-cpu-fp32` | `action` | 64 | 2.0e-07 off | ≤ 1e-05 |" in text
    assert "| `trt` | `tokens` | 64 | 98.00% equal | measured only |" in text
    assert "| `trt` | bf16 | tensorrt_engine, `model.plan` | 98.00% |  |" in text
    assert "| `bridge` | bounds_q99 | -0.1, -0.1" in text
    assert "no action token" in text


def test_facts_and_hashes_come_from_the_manifest(folder: Path) -> None:
    text = text_of(folder)
    assert MANIFEST.source.licence in text
    hashes = MANIFEST.source.sha256 | MANIFEST.source.weights_sha256
    assert "policy.safetensors" in hashes
    assert all(f"| `{name}` | `{digest}` |" in text for name, digest in hashes.items())


def test_the_committed_card_is_the_one_that_is_written_and_was_measured() -> None:
    assert (BUNDLE / "MODEL_CARD.md").read_text() == text_of(BUNDLE)
    assert "Not measured for this graph" not in text_of(BUNDLE)
