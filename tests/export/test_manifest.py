"""A missing or contradictory fact refuses to load, and the refusal names the field."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export.contract.manifest import ManifestError, load_manifest
from tests.export.contracts import BUNDLE, manifest, shipped, speaking

Change = Callable[[dict[str, Any]], object]


def write(folder: Path, facts: dict[str, Any]) -> Path:
    (folder / "manifest.json").write_text(json.dumps(facts))
    return folder


def set_at(*path: str | int, to: object) -> Change:
    """Replaces one value deep inside."""

    def change(facts: dict[str, Any]) -> None:
        inner: Any = facts
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = to

    return change


def test_the_shipped_manifest_and_one_with_everything_load(tmp_path: Path) -> None:
    assert load_manifest(BUNDLE).served_variant.runner == "onnx_graph"
    found = load_manifest(write(tmp_path, speaking()))
    assert found.tokens is not None
    assert found.action.statistics["bridge"].length == 7


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    found = manifest(speaking())
    (tmp_path / "manifest.json").write_text(found.model_dump_json())
    assert load_manifest(tmp_path) == found


CAMERA, WORDS, ACTION = ("cameras", 0), "instruction", "action"
CONTRADICTIONS = {
    "buckets descend": (set_at(WORDS, "buckets", to=[48, 32, 64]), "instruction.*buckets must ascend"),
    "buckets repeat": (set_at(WORDS, "buckets", to=[32, 32, 64]), "buckets must ascend"),
    "last bucket": (set_at(WORDS, "buckets", to=[32, 48]), "buckets must end with max_tokens, 64"),
    "no bucket": (set_at(WORDS, "buckets", to=[]), r"instruction\.buckets"),
    "no place for words": (set_at(WORDS, "template", to="In: {instr}"), "instruction.*template must hold"),
    "tokenizer elsewhere": (set_at(WORDS, "tokenizer_file", to="../tokenizer.json"), r"instruction\.tokenizer_file"),
    "padding is appended": (set_at(WORDS, "append_id", to=32000), "append_id and pad_id are both 32000"),
    "crop of nothing": (set_at(*CAMERA, "crop_area", to=0.0), r"cameras\.0\.crop_area"),
    "crop of more than all": (set_at(*CAMERA, "crop_area", to=1.1), r"cameras\.0\.crop_area"),
    "letterbox without colour": (set_at(*CAMERA, "resize", to="letterbox"), r"cameras\.0.*fill"),
    "colour without letterbox": (set_at(*CAMERA, "fill", to=[1, 2, 3]), r"cameras\.0.*fill"),
    "an optional camera unmasked": (set_at(*CAMERA, "is_required", to=False), r"cameras\.0.*mask_tensor"),
    "an optional state unmasked": (set_at("state", "mask_tensor", to=None), "state.*mask_tensor"),
    "statistics too short": (set_at(ACTION, "statistics", "bridge", "low", to=[0.0]), "statistics.bridge.*differ in length"),
    "statistics of another length": (
        set_at(ACTION, "statistics", "bridge", to={"scheme": "mean_std", "mean": [0.0], "std": [1.0]}),
        r"action.*statistics\[bridge\] scale 1 numbers, names has 7",
    ),
    "q01 above q99": (set_at(ACTION, "statistics", "bridge", "low", to=[0.3] + [-0.1] * 6), r"q01 above q99\) at \[0\]"),
    "a key without statistics": (set_at(ACTION, "unnorm_keys", to=["bridge", "fractal", "kuka"]), r"statistics lack \['kuka'\]"),
    "statistics without a key": (set_at(ACTION, "unnorm_keys", to=["bridge"]), r"statistics of \['fractal'\]"),
    "a choice without a wire": (set_at(ACTION, "unnorm_tensor", to=None), "action.*unnorm_tensor is needed"),
    "state statistics of other keys": (
        set_at("state", "statistics", to={"kuka": {"scheme": "mean_std", "mean": [0.0] * 8, "std": [1.0] * 8}}),
        "state.statistics are of",
    ),
    "a negative deviation": (
        set_at("state", "statistics", to={"bridge": {"scheme": "mean_std", "mean": [0.0] * 8, "std": [-1.0] * 8}}),
        r"state\.statistics\.bridge.*std",
    ),
    "an unknown scheme": (set_at(ACTION, "statistics", "bridge", "scheme", to="quantiles"), r"action\.statistics\.bridge"),
    "units missing": (set_at(ACTION, "units", to=["m"]), "action.*names and units differ in length: 7, 1"),
    "names repeat": (set_at(ACTION, "names", to=["dx"] * 7), "action.*names repeat"),
    "not a number": (set_at(ACTION, "control_hz", to=float("nan")), r"action\.control_hz|JSON"),
    "tokens not an output": (set_at("tokens", "tensor", to="ids"), "tokens.tensor 'ids' is not among outputs"),
    "log-probabilities not an output": (set_at("tokens", "logprob_tensor", to="x"), "tokens.logprob_tensor 'x' is not among"),
    "tokens as float": (
        set_at("outputs", 1, to={"tensor": "tokens", "dtype": "float32", "shape": [7], "atol": 0.0}),
        r"outputs\[tokens\].dtype is float32, tokens.tensor needs int64",
    ),
    "flags of another length": (set_at("outputs", 2, "shape", to=[6]), r"outputs\[is_action\].shape is \(6,\)"),
    "tokens nearly equal": (set_at("outputs", 1, "atol", to=1.0), "outputs.1.*atol of int64 must be 0"),
    "the action is no output": (set_at(ACTION, "tensor", to="motion"), "action.tensor 'motion' is not among outputs"),
    "the horizon is another": (set_at(ACTION, "horizon", to=2), r"outputs\[action\].shape is \(1, 7\)"),
    "served nothing known": (set_at("served", to="trt"), "served 'trt' is not among variants"),
    "a runner is told other buckets": (
        set_at("variants", 0, "parameters", to={"buckets": "32,64"}),
        r"variants\[onnx-cpu-fp32\].parameters.buckets is 32,64, instruction.buckets is 32,48,64",
    ),
    "a runner is told another padding": (set_at("variants", 0, "parameters", to={"pad_id": "0"}), "instruction.pad_id is 32000"),
    "tolerances of the reference": (set_at("variants", 0, "tolerances", to={"action": 1.0}), "fp32 is held to the outputs' own"),
    "tolerances of nothing": (set_at("variants", 0, "tolerances", to={"motion": 1.0}), r"tolerances of \['motion'\]"),
    "an agreement of more than all": (set_at("variants", 0, "token_agreement", to=1.1), r"variants\.0\.token_agreement"),
    "noise takes the state's place": (set_at("noise", to={"tensor": "state", "shape": [50, 7]}), "tensor: 'state' repeats"),
    "the index takes the words' place": (set_at(ACTION, "unnorm_tensor", to="instruction_ids"), "'instruction_ids' repeats"),
    "an output takes an input's place": (set_at("outputs", 4, "tensor", to="image"), "'image' repeats"),
    "robots repeat": (set_at("robots", to=["ur5e", "ur5e"]), "robots: 'ur5e' repeats"),
    "a name that leaves the folder": (set_at("policy", to="../x"), "policy"),
    "a hash that is none": (set_at("source", "sha256", "config.pbtxt", to="abc"), r"source\.sha256\.config\.pbtxt"),
    "an unknown fact": (set_at("temperature", to=1), "temperature"),
    "a float for a whole number": (set_at(ACTION, "horizon", to=1.0), r"action\.horizon"),
}


@pytest.mark.parametrize(("change", "names"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_contradiction_is_refused_by_name(change: Change, names: str, tmp_path: Path) -> None:
    facts = speaking()
    change(facts)
    with pytest.raises(ManifestError, match=names) as refused:
        load_manifest(write(tmp_path, facts))
    assert "manifest.json" in str(refused.value)
    assert "\n" not in str(refused.value)


def _fields(facts: dict[str, Any]) -> list[tuple[str, ...]]:
    nested = ((outer, inner) for outer in ("action", "instruction", "state") for inner in facts[outer])
    return [*((name,) for name in facts), *nested]


OPTIONAL = {("noise",), ("tokens",), ("action", "statistics"), ("action", "unnorm_tensor"), ("state", "statistics")}


@pytest.mark.parametrize("path", [path for path in _fields(shipped()) if path not in OPTIONAL], ids="-".join)
def test_a_missing_fact_is_refused_by_name(path: tuple[str, ...], tmp_path: Path) -> None:
    facts = shipped()
    inner = facts
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    with pytest.raises(ManifestError, match=path[-1]):
        load_manifest(write(tmp_path, facts))


def test_all_contradictions_are_named_at_once(tmp_path: Path) -> None:
    facts = speaking() | {"served": "trt", "robots": ["a", "a"]}
    with pytest.raises(ManifestError, match=r"robots: 'a' repeats.*served 'trt'"):
        load_manifest(write(tmp_path, facts))


@pytest.mark.parametrize(("version", "advice"), [(1, "export it again"), (3, "newer vlaapi")])
def test_another_schema_says_what_to_do(version: int, advice: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=f"schema_version: is {version}, this vlaapi reads 2: .*{advice}"):
        load_manifest(write(tmp_path, shipped() | {"schema_version": version}))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema_version": true}'])
def test_a_file_that_is_no_manifest_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ManifestError, match=r"manifest\.json"):
        load_manifest(tmp_path)


def test_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no manifest"):
        load_manifest(tmp_path / "nowhere")


def test_a_plan_must_agree_with_itself(tmp_path: Path) -> None:
    facts = shipped()
    shapes = {"min": [1, 24], "opt": [4, 24], "max": [2, 24]}
    facts["variants"][0]["plan"] = {
        "flavour": "tensorrt",
        "version": "11.1.0",
        "gpu": "NVIDIA H200",
        "compute_capability": "9.0",
        "graphs": [
            {
                "file": "model.plan",
                "profiles": [{"instruction_ids": shapes}],
                "onnx_sha256": "0" * 64,
                "bytes": 1,
                "precision_layers": {"bf16": 10},
            }
        ],
    }
    with pytest.raises(ManifestError, match=r"variants\.0\.plan.*min ≤ opt ≤ max"):
        load_manifest(write(tmp_path, facts))


@pytest.mark.parametrize(
    ("part", "fact"),
    [("cameras.0", "rotate_180"), ("cameras.0", "crop_area"), ("action", "statistics"), ("variants.0", "parameters")],
)
def test_a_fact_that_the_file_leaves_out_is_not_guessed(tmp_path: Path, part: str, fact: str) -> None:
    facts = speaking()
    name, _, number = part.partition(".")
    holder = facts[name][int(number)] if number else facts[name]
    del holder[fact]
    with pytest.raises(ManifestError, match=rf"{part}\.{fact}: missing|statistics lack"):
        load_manifest(write(tmp_path, facts))


def test_nesting_without_end_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"a": ' + "[" * 200_000)
    with pytest.raises(ManifestError, match="nested too deeply"):
        load_manifest(tmp_path)
