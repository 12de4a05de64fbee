"""SmolVLA: our network answers as LeRobot's own does, and a checkpoint that cannot be exported says why."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from export.contract.manifest import load_manifest
from export.contract.tokenize import InstructionTokenizer
from export.policies.adapter import CheckpointError
from export.policies.smolvla import open_checkpoint
from export.policies.smolvla.network import FlowMatching
from export.policies.smolvla.policy import FAMILY
from export.policies.smolvla.vision import VisionShape, VisionTower
from tests.export.lerobot_bundles import run_graph
from tests.export.lerobot_checkpoints import FIXTURES, TOLERANCE, Spoiled, asked, furthest, options, spoil

pytestmark = pytest.mark.export
BOTH = ["smolvla_tiny", "smolvla_tiny_old"]


@pytest.fixture
def spoiled(tmp_path: Path) -> Spoiled:
    return spoil("smolvla_tiny", tmp_path)


@pytest.mark.parametrize("name", BOTH)
def test_the_network_answers_as_lerobot_does(name: str) -> None:
    policy = open_checkpoint(options(FIXTURES / name))
    inputs, expected = asked(FIXTURES / name, policy.manifest(version=1, sha256={}))
    (found,) = policy.answers(inputs)
    assert furthest(found, expected) < TOLERANCE
    with np.load(FIXTURES / name / "answers.npz") as arrays:
        assert furthest(found[:, 0], arrays["answer.first"]) < TOLERANCE


def test_the_published_graph_answers_as_lerobot_does_at_any_batch_size(smolvla_bundle: Path) -> None:
    inputs, expected = asked(FIXTURES / "smolvla_tiny", load_manifest(smolvla_bundle))
    for batch in (1, 3, 4):
        found = run_graph(smolvla_bundle, {name: value[:batch] for name, value in inputs.items()})
        assert furthest(found, expected[:batch]) < TOLERANCE


@pytest.mark.parametrize("name", BOTH)
def test_each_input_matters(name: str) -> None:
    policy = open_checkpoint(options(FIXTURES / name))
    inputs, expected = asked(FIXTURES / name, policy.manifest(version=1, sha256={}))
    for tensor in inputs:
        (found,) = policy.answers(inputs | {tensor: inputs[tensor].flip(0)})
        assert furthest(found, expected) > 100 * TOLERANCE, tensor


def test_the_prefix_is_read_once_whatever_the_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = open_checkpoint(options(FIXTURES / "smolvla_tiny"))
    inputs, _ = asked(FIXTURES / "smolvla_tiny", policy.manifest(version=1, sha256={}))
    calls = {"read": 0, "velocity": 0}
    for name in calls:
        original = getattr(FlowMatching, name)

        def counted(*arguments: object, name: str = name, original: object = original) -> object:
            calls[name] += 1
            assert callable(original)
            return original(*arguments)

        monkeypatch.setattr(FlowMatching, name, counted)
    policy.answers(inputs)
    assert calls == {"read": 1, "velocity": 3}


def test_the_manifest_says_how_words_and_noise_come() -> None:
    manifest = open_checkpoint(options(FIXTURES / "smolvla_tiny")).manifest(version=1, sha256={})
    words, noise = manifest.instruction, manifest.noise
    assert manifest.family == FAMILY
    assert words is not None
    assert noise is not None
    assert (words.template, words.lowercase, words.max_tokens, words.pad_id) == ("{instruction}\n", False, 48, 0)
    assert noise.shape == (5, 8)
    assert [(camera.name, camera.width, camera.height) for camera in manifest.cameras] == [
        ("camera1", 80, 48),
        ("camera2", 60, 90),
    ]


def test_words_become_the_ids_that_the_original_tokenizer_gives() -> None:
    policy = open_checkpoint(options(FIXTURES / "smolvla_tiny"))
    words = policy.manifest(version=1, sha256={}).instruction
    assert words is not None
    tokenizer = InstructionTokenizer(FIXTURES / "smolvla_tiny" / "vlm", words)
    ids = tokenizer.ids("go")
    newline = json.loads((FIXTURES / "smolvla_tiny" / "vlm" / "tokenizer.json").read_text())["model"]["vocab"]["Ċ"]
    last = int(np.flatnonzero(ids != words.pad_id)[-1])
    assert ids[last] == newline
    assert not np.isin(tokenizer.ids("<image><|im_end|>")[:2], (2, 3)).any(), "a caller's text became a special token"


def test_cameras_that_only_training_knew_are_not_asked_for() -> None:
    manifest = open_checkpoint(options(FIXTURES / "smolvla_tiny_old")).manifest(version=1, sha256={})
    config = json.loads((FIXTURES / "smolvla_tiny_old" / "config.json").read_text())
    assert len(config["input_features"]) == 4
    assert [camera.name for camera in manifest.cameras] == ["image"]


def test_examples_hold_words_of_several_lengths_and_noise() -> None:
    policy = open_checkpoint(options(FIXTURES / "smolvla_tiny"))
    examples = policy.examples()
    assert list(examples) == ["image_camera1", "image_camera2", "instruction_ids", "state", "noise"]
    assert len({int((row != 0).sum()) for row in examples["instruction_ids"]}) > 2
    assert 0.8 < float(examples["noise"].std()) < 1.2
    assert torch.isfinite(policy.answers(examples)[0]).all()


def test_weights_in_half_precision_answer_in_single(spoiled: Spoiled) -> None:
    def halve(found: dict[str, torch.Tensor]) -> None:
        found.update({name: value.bfloat16() for name, value in found.items() if ".vlm." in name})

    spoiled.weights(halve)
    policy = open_checkpoint(options(spoiled.folder))
    inputs, expected = asked(spoiled.folder, policy.manifest(version=1, sha256={}))
    (found,) = policy.answers(inputs)
    assert found.dtype == torch.float32
    assert TOLERANCE < furthest(found, expected) < 0.1


def test_the_robot_says_which_cameras_it_has_and_how_large(spoiled: Spoiled) -> None:
    spoiled.json("robot.json", lambda found: found.update(cameras={"camera2": [640, 480]}))
    policy = open_checkpoint(options(spoiled.folder))
    (camera,) = policy.manifest(version=1, sha256={}).cameras
    assert (camera.name, camera.width, camera.height) == ("camera2", 640, 480)
    assert torch.isfinite(policy.answers(policy.examples())[0]).all()


@pytest.mark.parametrize("name", BOTH)
def test_a_state_is_as_long_as_its_statistics_whatever_the_policy_before_had(name: str, tmp_path: Path) -> None:
    spoiled = spoil(name, tmp_path)
    spoiled.json("config.json", lambda found: found["input_features"]["observation.state"].update(shape=[3]))
    policy = open_checkpoint(options(spoiled.folder))
    inputs, expected = asked(spoiled.folder, policy.manifest(version=1, sha256={}))
    assert furthest(policy.answers(inputs)[0], expected) < TOLERANCE


@pytest.mark.parametrize(
    ("cameras", "said"),
    [
        (None, "takes any of camera1, camera2, camera3 at any size"),
        ({}, '"cameras": {"camera1": [640, 480]}'),
        ({"wrist": [64, 64]}, "'wrist' is none of camera1, camera2, camera3"),
        ({"camera1": [64, 0]}, "cameras.camera1.1: Input should be greater than 0"),
    ],
)
def test_cameras_are_never_guessed(spoiled: Spoiled, cameras: object, said: str) -> None:
    spoiled.json("robot.json", lambda found: found.update(cameras=cameras))
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(options(spoiled.folder))
    assert said in str(refused.value)


def test_the_tokenizer_travels_along() -> None:
    policy = open_checkpoint(options(FIXTURES / "smolvla_tiny"))
    assert policy.files() == {"tokenizer.json": FIXTURES / "smolvla_tiny" / "vlm" / "tokenizer.json"}


def test_patches_of_a_smaller_picture_spread_over_the_trained_places() -> None:
    shape = VisionShape(width=4, inner=4, layers=1, heads=1, patch=8, trained=64, epsilon=1e-6, fold=2, size=(32, 32))
    places = VisionTower(shape).embeddings.places.reshape(4, 4)
    assert places[0].tolist() == [0, 2, 4, 6]
    assert places[:, 0].tolist() == [0, 16, 32, 48]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adapt_to_pi_aloha": True}, "adapt_to_pi_aloha"),
        ({"use_delta_joint_actions_aloha": True}, "use_delta_joint_actions_aloha"),
        ({"resize_imgs_with_padding": [64, 32]}, "squares"),
        ({"resize_imgs_with_padding": None}, "squares"),
        ({"max_action_dim": 4}, "larger than"),
        ({"attention_mode": "linear"}, "attention_mode 'linear'"),
        ({"num_steps": 0}, "num_steps"),
        ({"vlm_model_name": "org/other", "max_state_dim": 9}, "state_proj.weight has the shape"),
        ({"self_attn_every_n_layers": 1}, "config.json implies"),
        ({"tokenizer_max_length": 32}, "does not tokenise as config.json says"),
    ],
)
def test_a_configuration_that_cannot_be_served_is_refused(spoiled: Spoiled, changes: dict[str, object], said: str) -> None:
    spoiled.config(**changes)
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(options(spoiled.folder))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_checkpoint_without_its_language_model_says_what_to_put_where(spoiled: Spoiled) -> None:
    spoiled.config(vlm_model_name="HuggingFaceTB/SmolVLM2-500M-Video-Instruct")
    (spoiled.folder / "vlm" / "tokenizer.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"put config.json and tokenizer.json of 'HuggingFaceTB/SmolVLM2-500M-Video-Instruct'"
    ):
        open_checkpoint(options(spoiled.folder))


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("tokenizer.json", "{}", "not a tokenizer"),
        ("config.json", "{}", "text_config: Field required"),
        ("config.json", '{"text_config": {"hidden_size": 32, "num_attention_heads": 4, "hidden_act": "gelu"}}', "hidden_act"),
    ],
)
def test_a_language_model_that_is_none_is_refused(spoiled: Spoiled, file: str, text: str, said: str) -> None:
    (spoiled.folder / "vlm" / file).write_text(text)
    with pytest.raises(CheckpointError, match=said):
        open_checkpoint(options(spoiled.folder))


def test_a_tokenizer_of_another_model_is_refused(spoiled: Spoiled) -> None:
    def grow(found: dict[str, dict[str, dict[str, int]]]) -> None:
        vocabulary = found["model"]["vocab"]
        vocabulary.update({f"word{index}": len(vocabulary) + index for index in range(100)})

    spoiled.json("vlm/tokenizer.json", grow)
    with pytest.raises(CheckpointError, match="not its tokenizer"):
        open_checkpoint(options(spoiled.folder))


def test_weights_of_another_policy_are_refused(spoiled: Spoiled) -> None:
    (spoiled.folder / "model.safetensors").write_bytes((FIXTURES / "act_tiny" / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="no SmolVLA is in it"):
        open_checkpoint(options(spoiled.folder))
