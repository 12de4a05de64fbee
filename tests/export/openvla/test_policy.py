"""An opened checkpoint states its facts, asks the same 64 questions every time, and refuses what it cannot describe."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from export.contract.facts import ActionKind, GripperPolarity, ResizeRule
from export.contract.wire import inputs_of, outputs_of
from export.policies.adapter import CheckpointError
from export.policies.openvla.policy import OpenVlaPolicy
from tests.export.openvla.conftest import opened
from tests.export.openvla_checkpoint import Shape, statistics, write_checkpoint

pytestmark = pytest.mark.export
SHAPE = Shape()


def test_the_wire_is_what_the_graphs_take(tiny: OpenVlaPolicy) -> None:
    facts = tiny.manifest(version=3, sha256={})
    examples = tiny.examples()
    assert [tensor.name for tensor in inputs_of(facts)] == list(examples)
    assert all(tuple(examples[tensor.name].shape[1:]) == tensor.shape for tensor in inputs_of(facts))
    answers = tiny.answers({name: value[:2] for name, value in examples.items()})
    assert [tensor.shape for tensor in outputs_of(facts)] == [tuple(answer.shape[1:]) for answer in answers]
    assert [str(answer.dtype).removeprefix("torch.") for answer in answers] == [tensor.dtype for tensor in outputs_of(facts)]


def test_the_frozen_set_holds_64_different_pairs_and_every_key(tiny: OpenVlaPolicy) -> None:
    first, again = tiny.examples(), tiny.examples()
    assert all(torch.equal(first[name], again[name]) for name in first)
    pairs = {
        (image.numpy().tobytes(), ids.numpy().tobytes())
        for image, ids in zip(first["image"], first["instruction_ids"], strict=True)
    }
    assert len(pairs) == 64
    assert set(first["unnorm_index"].flatten().tolist()) == {0, 1}


def test_the_frozen_set_tells_prompts_and_pictures_apart(tiny: OpenVlaPolicy) -> None:
    _, tokens, *_ = tiny.answers(tiny.examples())
    assert len({tuple(row) for row in tokens.tolist()}) > 40


def test_seven_numbers_are_openvla_s_own_convention(tiny: OpenVlaPolicy) -> None:
    action = tiny.manifest(version=1, sha256={}).action
    assert action.kind is ActionKind.EE_DELTA_EULER
    assert action.names == ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
    assert action.gripper_polarity is GripperPolarity.ONE_IS_OPEN
    assert action.statistics["bridge_orig"].mask == (True,) * 6 + (False,)


def test_other_lengths_are_exported_but_described_as_unknown(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, replace(SHAPE, norm_stats={"arms": statistics(14)}))
    facts = opened(folder).manifest(version=1, sha256={})
    assert set(facts.action.units) == {"unstated"}
    assert facts.outputs[0].shape == (1, 14)
    said = opened(folder, kind=ActionKind.JOINT_ABS).manifest(version=1, sha256={}).action
    assert (said.names[0], said.names[-1], said.units[0]) == ("joint_1", "gripper", "rad")
    with pytest.raises(CheckpointError, match="14 numbers"):
        opened(folder, kind=ActionKind.EE_ABS).manifest(version=1, sha256={})


def test_a_chosen_key_is_the_only_one_served(openvla_tiny: Path) -> None:
    policy = opened(openvla_tiny, unnorm_keys=("tiny_sim",))
    assert policy.manifest(version=1, sha256={}).action.unnorm_keys == ("tiny_sim",)
    assert int(policy.examples()["unnorm_index"].max()) == 0


def test_crop_and_rotation_are_what_the_operator_states(openvla_tiny: Path) -> None:
    manifest = opened(openvla_tiny, crop_area=0.9, rotate_180=True).manifest(version=2, sha256={})
    again = f"vlaapi export openvla --checkpoint {openvla_tiny.name} --name tiny --robot franka_panda"
    assert manifest.source.command == f"{again} --crop-area 0.9 --rotate-180 --version 2"
    (camera,) = manifest.cameras
    assert (camera.crop_area, camera.rotate_180) == (0.9, True)


def test_a_letterbox_checkpoint_says_so(odd_checkpoint: Path) -> None:
    camera = opened(odd_checkpoint).manifest(version=1, sha256={}).cameras[0]
    assert (camera.resize, camera.fill, camera.width) == (ResizeRule.LETTERBOX, (127, 102, 76), 42)


def test_half_precision_weights_answer_as_the_same_weights_in_float32(odd_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(odd_checkpoint, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("*.safetensors"):
        save_file({name: tensor.float() for name, tensor in load_file(path).items()}, path)
    half, wide = opened(odd_checkpoint), opened(tmp_path)
    some = {name: value[:3] for name, value in half.examples().items()}
    pairs = zip(half.answers(some), wide.answers(some), strict=True)
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in pairs)


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a folder"):
        opened(tmp_path / "nowhere")


def test_what_travels_along_is_the_checkpoint_s_tokenizer(tiny: OpenVlaPolicy, openvla_tiny: Path) -> None:
    assert tiny.files() == {"tokenizer.json": openvla_tiny / "tokenizer.json"}
    assert tiny.runner().is_file()
    assert tiny.manifest(version=1, sha256={}).served_variant.runner == tiny.runner().stem


def test_what_nobody_said_is_told_as_assumed(openvla_tiny: Path) -> None:
    silent = opened(openvla_tiny, robots_are_assumed=True).manifest(version=1, sha256={})
    assert silent.description.endswith("bins. Assumed, because nobody said: 5 Hz, robot franka_panda.")
    told = opened(openvla_tiny, control_hz=10.0).manifest(version=1, sha256={})
    assert told.description.endswith("bins.")
    assert told.action.control_hz == 10.0
