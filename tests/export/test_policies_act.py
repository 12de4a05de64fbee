"""ACT: our network answers as LeRobot's own does, as ONNX too, and a checkpoint that cannot be exported says why."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from export.contract.manifest import load_manifest
from export.policies.act import open_checkpoint
from export.policies.act.resnet import map_size
from export.policies.adapter import CheckpointError
from tests.export.lerobot_bundles import run_graph
from tests.export.lerobot_checkpoints import FIXTURES, TOLERANCE, Spoiled, asked, furthest, options, spoil

pytestmark = pytest.mark.export
BOTH = ["act_tiny", "act_tiny_old"]


@pytest.fixture
def spoiled(tmp_path: Path) -> Spoiled:
    return spoil("act_tiny", tmp_path)


@pytest.mark.parametrize("name", BOTH)
def test_the_network_answers_as_lerobot_does(name: str) -> None:
    policy = open_checkpoint(options(FIXTURES / name))
    inputs, expected = asked(FIXTURES / name, policy.manifest(version=1, sha256={}))
    (found,) = policy.answers(inputs)
    assert furthest(found, expected) < TOLERANCE
    assert np.ptp(expected, axis=0).max() > 0.1, "the answers hardly depend on what is seen, so equality would prove little"


@pytest.mark.parametrize("name", BOTH)
def test_the_first_action_is_what_select_action_gives(name: str) -> None:
    policy = open_checkpoint(options(FIXTURES / name))
    inputs, _ = asked(FIXTURES / name, policy.manifest(version=1, sha256={}))
    with np.load(FIXTURES / name / "answers.npz") as arrays:
        assert furthest(policy.answers(inputs)[0][:, 0], arrays["answer.first"]) < TOLERANCE


def test_each_input_matters() -> None:
    policy = open_checkpoint(options(FIXTURES / "act_tiny"))
    inputs, expected = asked(FIXTURES / "act_tiny", policy.manifest(version=1, sha256={}))
    for name in inputs:
        (found,) = policy.answers(inputs | {name: inputs[name].flip(0)})
        assert furthest(found, expected) > 100 * TOLERANCE, name


def test_the_published_graph_answers_as_lerobot_does_at_any_batch_size(act_bundle: Path) -> None:
    inputs, expected = asked(FIXTURES / "act_tiny", load_manifest(act_bundle))
    for batch in (1, 3, 4):
        found = run_graph(act_bundle, {name: value[:batch] for name, value in inputs.items()})
        assert furthest(found, expected[:batch]) < TOLERANCE


def test_the_manifest_says_what_the_checkpoint_and_the_operator_say() -> None:
    manifest = open_checkpoint(options(FIXTURES / "act_tiny")).manifest(version=3, sha256={})
    assert [(one.name, one.tensor, one.width, one.height) for one in manifest.cameras] == [
        ("top", "image_top", 96, 64),
        ("wrist-cam", "image_wrist_cam", 96, 64),
    ]
    assert manifest.instruction is None
    assert manifest.state is not None
    assert manifest.state.names == tuple(f"state_{index}" for index in range(6))
    assert (manifest.action.horizon, manifest.action.unnorm_keys) == (10, ("vlaapi/act_tiny",))
    assert manifest.action.statistics["vlaapi/act_tiny"].scheme == "mean_std"
    assert "8 were meant to be executed" in manifest.description
    assert (manifest.version, manifest.robots, manifest.source.licence) == (3, ("so100",), "Apache-2.0")
    again = "vlaapi export act --checkpoint act_tiny --name act_tiny --robot so100 --control-hz 30 --licence Apache-2.0"
    assert manifest.source.command == f"{again} --kind joint_abs --version 3"


def test_the_environment_state_is_asked_for_after_the_robots() -> None:
    manifest = open_checkpoint(options(FIXTURES / "act_tiny_old")).manifest(version=1, sha256={})
    assert manifest.state is not None
    assert manifest.state.names == (*(f"state_{index}" for index in range(5)), *(f"environment_{index}" for index in range(4)))
    assert manifest.state.statistics == {}  # the two are scaled in different ways, for which the manifest has no words
    assert manifest.action.statistics["vlaapi/act_tiny_old"].scheme == "bounds"


def test_examples_are_the_same_every_time_and_name_the_graphs_inputs() -> None:
    policy = open_checkpoint(options(FIXTURES / "act_tiny"))
    first, again = policy.examples(), policy.examples()
    assert list(first) == ["image_top", "image_wrist_cam", "state"]
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert torch.isfinite(policy.answers(first)[0]).all()


def test_a_robots_own_name_for_a_camera_is_used(spoiled: Spoiled) -> None:
    def rename(found: dict[str, list[dict[str, object]]]) -> None:
        found["steps"][0]["config"] = {"rename_map": {"observation.images.front": "observation.images.top"}}

    spoiled.json("policy_preprocessor.json", rename)
    manifest = open_checkpoint(options(spoiled.folder)).manifest(version=1, sha256={})
    assert [camera.name for camera in manifest.cameras] == ["front", "wrist-cam"]


def test_cameras_whose_names_differ_only_in_signs_stay_apart(spoiled: Spoiled) -> None:
    def rename(found: dict[str, list[dict[str, object]]]) -> None:
        found["steps"][0]["config"] = {"rename_map": {"observation.images.wrist_cam": "observation.images.top"}}

    spoiled.json("policy_preprocessor.json", rename)
    manifest = open_checkpoint(options(spoiled.folder)).manifest(version=1, sha256={})
    assert [(one.name, one.tensor) for one in manifest.cameras] == [
        ("wrist_cam", "image_wrist_cam"),
        ("wrist-cam", "image_wrist_cam_"),
    ]


def test_weights_of_a_compiled_network_are_the_same_weights(spoiled: Spoiled) -> None:
    def compiled(found: dict[str, torch.Tensor]) -> None:
        for name in list(found):
            found[name.replace("model.", "model._orig_mod.")] = found.pop(name)

    spoiled.weights(compiled)
    policy = open_checkpoint(options(spoiled.folder))
    inputs, expected = asked(spoiled.folder, policy.manifest(version=1, sha256={}))
    assert furthest(policy.answers(inputs)[0], expected) < TOLERANCE


def test_averaging_over_chunks_is_left_to_the_client_and_said(spoiled: Spoiled) -> None:
    spoiled.config(temporal_ensemble_coeff=0.01, n_action_steps=1)
    description = open_checkpoint(options(spoiled.folder)).manifest(version=1, sha256={}).description
    assert "averaged overlapping chunks with the coefficient 0.01" in description


def test_a_trained_rate_and_licence_need_no_option(spoiled: Spoiled) -> None:
    spoiled.json("train_config.json", lambda found: found.update(env={"type": "aloha", "fps": 50}))
    spoiled.config(license="mit")
    manifest = open_checkpoint(options(spoiled.folder, control_hz=None, licence=None)).manifest(version=1, sha256={})
    assert (manifest.action.control_hz, manifest.source.licence) == (50.0, "mit")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"type": "diffusion"}, "is a 'diffusion' policy"),
        ({"vision_backbone": "resnet19"}, "vision_backbone 'resnet19' is not known here"),
        ({"vision_backbone": "resnet50"}, "no resnet50 is in it"),
        ({"n_obs_steps": 2}, "n_obs_steps is 2"),
        ({"use_peft": True}, "merge the adapter"),
        ({"n_action_steps": 11}, "n_action_steps is above chunk_size"),
        ({"feedforward_activation": "glu"}, "feedforward_activation 'glu'"),
        ({"replace_final_stride_with_dilation": True}, "cannot be dilated"),
        ({"n_heads": 5}, "no multiple"),
        ({"dim_model": 64}, "config.json implies"),
        ({"n_encoder_layers": 3}, "lacks encoder.layers.2"),
        ({"n_encoder_layers": 1}, "no place for: encoder.layers.1"),
        ({"chunk_size": None}, "chunk_size: Input should be a valid integer"),
        ({"input_features": {}}, "hold no picture"),
        ({"input_features": {"words": {"type": "LANGUAGE", "shape": [4]}}}, "input_features.words.type"),
        ({"input_features": {"observation.images.a": {"type": "VISUAL", "shape": [1, 64, 96]}}}, "of shape (1, 64, 96)"),
        ({"output_features": {}}, "output_features must be one vector"),
    ],
)
def test_a_configuration_that_cannot_be_served_is_refused(spoiled: Spoiled, changes: dict[str, object], said: str) -> None:
    spoiled.config(**changes)
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(options(spoiled.folder))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def _fill(name: str, value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(found: dict[str, torch.Tensor]) -> None:
        found[name] = torch.full_like(found[name], value)

    return change


def test_a_weight_that_is_not_a_number_is_named(spoiled: Spoiled) -> None:
    spoiled.weights(_fill("model.action_head.bias", float("nan")))
    with pytest.raises(CheckpointError, match=r"action_head.bias holds NaN"):
        open_checkpoint(options(spoiled.folder))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"robots": ()}, "--robot"),
        ({"kind": None}, "--kind"),
        ({"control_hz": None}, "--control-hz"),
        ({"licence": None}, "--licence"),
        ({"unnorm_keys": ("bridge_orig",)}, "--unnorm-key"),
    ],
)
def test_a_missing_fact_names_its_option(changes: dict[str, object], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        open_checkpoint(options(FIXTURES / "act_tiny", **changes))


def test_names_and_units_are_asked_for_never_guessed(spoiled: Spoiled) -> None:
    (spoiled.folder / "robot.json").unlink()
    with pytest.raises(CheckpointError, match=r"write names and units of state \(6\), action \(6\) into it"):
        open_checkpoint(options(spoiled.folder))


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("action", {"names": ["a"], "units": ["rad"], "frame": "joints", "gripper_polarity": None}, "the policy has 6 numbers"),
        ("action", {"names": ["a"] * 6, "units": ["rad"] * 6}, "action.frame: Field required"),
        ("environment", {"names": ["a"], "units": ["rad"]}, "environment: 1 names and 1 units, the policy has 0"),
        ("joints", [], "joints: Extra inputs"),
        ("cameras", {"top": [96, 64]}, "cameras: config.json says them"),
    ],
)
def test_names_that_do_not_fit_are_refused(spoiled: Spoiled, part: str, value: object, said: str) -> None:
    spoiled.json("robot.json", lambda found: found.update({part: value}))
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(options(spoiled.folder))
    assert said in str(refused.value)


@pytest.mark.parametrize(("size", "is_dilated", "expected"), [(480, False, 15), (70, False, 3), (64, False, 2), (70, True, 5)])
def test_a_picture_becomes_a_map_of_known_size(size: int, *, is_dilated: bool, expected: int) -> None:
    assert map_size(size, is_dilated=is_dilated) == expected


def test_the_fixtures_are_lerobots_own_layout() -> None:
    steps = json.loads((FIXTURES / "act_tiny" / "policy_preprocessor.json").read_text())["steps"]
    assert (FIXTURES / "act_tiny" / steps[-1]["state_file"]).is_file()
    assert not (FIXTURES / "act_tiny_old" / "policy_preprocessor.json").exists()
