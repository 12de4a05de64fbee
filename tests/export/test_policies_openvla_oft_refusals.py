"""Every faulty OpenVLA-OFT checkpoint is refused with one line that says what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from export.__main__ import app
from export.contract.facts import ActionKind
from export.families import FAMILIES
from export.policies.adapter import CheckpointError, CheckpointOptions
from export.policies.openvla_oft import open_checkpoint
from tests.export.openvla_oft_checkpoint import ALOHA, BRIDGE, LIBERO, Robot, head, projector, write

pytestmark = pytest.mark.export
HEAD, PROJECTOR, STATISTICS = "action_head--10_checkpoint.pt", "proprio_projector--10_checkpoint.pt", "dataset_statistics.json"
Break = Callable[[Path], None]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Robot], Path]:
    found: dict[str, Path] = {}

    def once(robot: Robot) -> Path:
        if robot.name not in found:
            found[robot.name] = tmp_path_factory.mktemp(robot.name)
            write(robot, found[robot.name])
        return found[robot.name]

    return once


@pytest.fixture
def checkpoint(written: Callable[[Robot], Path], tmp_path: Path) -> Path:
    """A LIBERO checkpoint of links: what a test replaces is replaced in its copy only."""
    return _linked(written(LIBERO), tmp_path / "libero")


def _linked(source: Path, folder: Path) -> Path:
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).symlink_to(file)
    return folder


def _open(folder: Path, robots: tuple[str, ...] = ("franka_panda",), **options: Any) -> None:
    open_checkpoint(CheckpointOptions(checkpoint=folder, name="oft", robots=robots, **options))


def _remove(name: str) -> Break:
    return lambda folder: (folder / name).unlink()


def _rename(name: str, other: str) -> Break:
    def rename(folder: Path) -> None:
        (folder / name).rename(folder / other)

    return rename


def _save(name: str, value: object) -> Break:
    def replace(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        torch.save(value, folder / name)

    return replace


def _text(name: str, text: str) -> Break:
    def replace(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text(text)

    return replace


def _state(**stated: object) -> Break:
    return _text("openvla_oft.json", json.dumps(stated))


def _edit_statistics(change: Callable[[dict[str, Any]], None]) -> Break:
    def edit(folder: Path) -> None:
        found = json.loads((folder / STATISTICS).read_text())
        change(found["libero_spatial_no_noops"])
        _text(STATISTICS, json.dumps(found))(folder)

    return edit


def _only_an_adapter(folder: Path) -> None:
    (folder / "lora_adapter").mkdir()
    (folder / "model.safetensors.index.json").unlink()


def _single_tower(folder: Path) -> None:
    found = json.loads((folder / "config.json").read_text())
    _text("config.json", json.dumps(found | {"use_fused_vision_backbone": False}))(folder)


def _nan_head() -> dict[str, torch.Tensor]:
    found = head(LIBERO)
    found["model.fc1.bias"][3] = float("nan")
    return found


FAULTS: dict[str, tuple[Break, str]] = {
    "no head": (_remove(HEAD), r"no action_head--<step>_checkpoint.pt; copy"),
    "heads of two steps": (_save("action_head--20_checkpoint.pt", head(LIBERO)), r"action_head--10.*action_head--20.*keep the"),
    "projector of another step": (
        _rename(PROJECTOR, "proprio_projector--20_checkpoint.pt"),
        "from different steps",
    ),
    "no projector": (_remove(PROJECTOR), r'no proprio_projector.*"use_proprio": false'),
    "head of another robot": (_save(HEAD, head(ALOHA)), r"head answers 14 numbers a step, its recipe has 7"),
    "head of another width": (
        _save(HEAD, {"model.fc2.bias": torch.zeros(7), "model.layer_norm1.weight": torch.zeros(4096 * 7)}),
        r"reads 28672 numbers a step .* belongs to another checkpoint",
    ),
    "head without a layer": (
        _save(HEAD, {name: value for name, value in head(LIBERO).items() if name != "model.fc1.bias"}),
        r"lacks or does not know model.fc1.bias",
    ),
    "head of NaN": (_save(HEAD, _nan_head()), r"model.fc1.bias holds NaN"),
    "something else as head": (_save(HEAD, {"weight": torch.zeros(3)}), "is no L1 regression head"),
    "no tensors as head": (_save(HEAD, ["a list"]), "holds no state dict"),
    "a head that is code": (_save(HEAD, Path("/")), "damaged, or not a plain state dict"),
    "a truncated head": (_text(HEAD, "PK"), "damaged, or not a plain state dict"),
    "projector of another robot": (_save(PROJECTOR, projector(ALOHA)), "takes 14 numbers, the state of its recipe has 8"),
    "something else as projector": (_save(PROJECTOR, {"a": torch.zeros(1)}), "is no proprio projector"),
    "diffusion": (_save("noisy_action_projector--10_checkpoint.pt", {}), "a diffusion policy; only the L1"),
    "a diffusion head": (_save(HEAD, {"noise_predictor.mlp_resnet.fc1.bias": torch.zeros(1)}), "is a diffusion head"),
    "FiLM": (_save("vision_backbone--10_checkpoint.pt", {}), "a FiLM policy"),
    "an unmerged adapter": (_only_an_adapter, "merge_lora_weights_and_save.py"),
    "no statistics": (_remove(STATISTICS), "dataset_statistics.json: not found"),
    "empty statistics": (_text(STATISTICS, "{}"), "is empty"),
    "statistics that are no JSON": (_text(STATISTICS, "{"), "not readable as JSON"),
    "no action statistics": (_edit_statistics(lambda entry: entry.pop("action")), "libero_spatial_no_noops has no action stat"),
    "no percentiles": (_edit_statistics(lambda entry: entry["action"].pop("q01")), "action lacks q01 or q99"),
    "bounds in words": (_edit_statistics(lambda entry: entry["action"].update(q01=["a"] * 7)), "q01 is no list of finite"),
    "an endless bound": (_edit_statistics(lambda entry: entry["action"].update(q99=[1e999] * 7)), "q99 is no list of finite"),
    "a bound of booleans": (_edit_statistics(lambda entry: entry["action"].update(q01=[False] * 7)), "q01 is no list of finite"),
    "a bound beyond any float": (
        _edit_statistics(lambda entry: entry["action"].update(q01=[-(10**400)] * 7)),
        "q01 is no list of finite",
    ),
    "a mask in words": (_edit_statistics(lambda entry: entry["action"].update(mask=["false"] * 7)), "mask is no list"),
    "a mask as one word": (_edit_statistics(lambda entry: entry["action"].update(mask="1111110")), "mask is no list"),
    "turned bounds": (_edit_statistics(lambda entry: entry["action"].update(q01=[9.0] * 7)), "low is above high"),
    "a mask of numbers": (_edit_statistics(lambda entry: entry["action"].update(mask=[1] * 7)), "mask is no list"),
    "a short mask": (_edit_statistics(lambda entry: entry["action"].update(mask=[True] * 6)), "differ in length"),
    "no state statistics": (_edit_statistics(lambda entry: entry.pop("proprio")), "bounds of no state numbers"),
    "short statistics": (
        _edit_statistics(lambda entry: entry["action"].update(q01=[0.0] * 6, q99=[1.0] * 6, mask=[True] * 6)),
        "bounds of 6 action numbers, the weights were trained with 7",
    ),
    "no tokenizer": (_remove("tokenizer.json"), "tokenizer.json: not found"),
    "no weights": (_remove("model-00002-of-00002.safetensors"), "model-00002-of-00002.safetensors missing"),
    "several pictures for a single tower": (_single_tower, "only two fused vision towers"),
    "joints by the names of a pose": (_state(kind="joint_abs"), "would be joint_abs, but are called dx"),
    "unknown statement": (_state(num_images=2), "num_images: Extra inputs"),
    "state said absent": (_state(use_proprio=False), "there is a proprio_projector"),
    "five cameras": (_state(num_images_in_input=5), "num_images_in_input: Input should be less than or equal to 4"),
    "unnamed cameras": (_state(num_images_in_input=4), '"cameras" must name as many'),
    "the same camera twice": (_state(cameras=["primary", "primary"]), "each once"),
    "too few units": (_state(action_units=["m"]), "must be as many as action_names"),
    "the same name twice": (_state(action_names=["x"] * 7), "names repeat"),
    "a scaled gripper": (_state(action_scale=[0.05] * 7), "1 where the mask passes"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_checkpoint_is_refused_in_one_line(checkpoint: Path, fault: str) -> None:
    spoil, wanted = FAULTS[fault]
    spoil(checkpoint)
    with pytest.raises(CheckpointError, match=wanted) as refused:
        _open(checkpoint)
    assert "\n" not in str(refused.value)


def test_an_unknown_key_is_refused_with_those_that_there_are(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no nowhere; its keys are libero_goal_no_noops, libero_spatial_no_noops"):
        _open(checkpoint, unnorm_keys=("nowhere",))


def test_only_the_wanted_keys_are_served_and_the_adapter_beside_merged_weights_is_no_fault(checkpoint: Path) -> None:
    (checkpoint / "lora_adapter").mkdir()
    options = CheckpointOptions(checkpoint=checkpoint, name="o", robots=("r",), unnorm_keys=("libero_spatial_no_noops",))
    manifest = open_checkpoint(options).manifest(version=1, sha256={})
    assert manifest.action.unnorm_keys == ("libero_spatial_no_noops",)


def test_data_sets_of_two_platforms_are_refused(checkpoint: Path) -> None:
    found = json.loads((checkpoint / STATISTICS).read_text())
    _text(STATISTICS, json.dumps(found | {"bridge_orig": found["libero_goal_no_noops"]}))(checkpoint)
    with pytest.raises(CheckpointError, match="of several platforms"):
        _open(checkpoint)


def _rename_data_set(folder: Path, name: str) -> None:
    found = json.loads((folder / STATISTICS).read_text())
    _text(STATISTICS, json.dumps({name: next(iter(found.values()))}))(folder)


def test_a_robot_of_ones_own_gets_the_constants_of_its_shapes_but_not_the_simulators_ways(checkpoint: Path) -> None:
    _rename_data_set(checkpoint, "our_arm")
    with pytest.raises(CheckpointError, match="give --control-hz"):
        _open(checkpoint)
    with pytest.raises(CheckpointError, match="give --robot"):
        _open(checkpoint, robots=(), control_hz=12.5)
    options = CheckpointOptions(
        checkpoint=checkpoint, name="our-arm", robots=("r",), control_hz=12.5, kind=ActionKind.EE_DELTA_EULER
    )
    manifest = open_checkpoint(options).manifest(version=1, sha256={})
    assert (manifest.action.horizon, manifest.action.control_hz) == (8, 12.5)
    assert manifest.action.units[:2] == ("m", "m")
    assert manifest.action.kind is ActionKind.EE_DELTA_EULER
    assert not any(camera.rotate_180 for camera in manifest.cameras)
    again = f"vlaapi export openvla-oft --checkpoint {checkpoint.name} --name our-arm --robot r --control-hz 12.5"
    assert manifest.source.command == f"{again} --kind ee_delta_euler"


def test_shapes_that_fit_several_platforms_must_be_told(written: Callable[[Robot], Path], tmp_path: Path) -> None:
    folder = _linked(written(BRIDGE), tmp_path / "bridge")
    _rename_data_set(folder, "our_arm")
    with pytest.raises(CheckpointError, match='fit libero and bridge; state "platform"'):
        _open(folder, control_hz=5.0)
    _state(platform="libero", use_proprio=False, num_images_in_input=1, num_actions_chunk=4, center_crop=False)(folder)
    options = CheckpointOptions(checkpoint=folder, name="our-arm", robots=("r",))
    manifest = open_checkpoint(options).manifest(version=1, sha256={})
    assert manifest.action.horizon == 4
    assert [camera.crop_area for camera in manifest.cameras] == [None]


def test_stated_joints_have_no_gripper_unless_one_is_named(checkpoint: Path) -> None:
    names, units = [f"joint_{index}" for index in range(1, 8)], ["rad"] * 7
    _state(kind="joint_vel", action_names=names, action_units=units, frame="joints")(checkpoint)
    action = (
        open_checkpoint(CheckpointOptions(checkpoint=checkpoint, name="o", robots=("r",))).manifest(version=1, sha256={}).action
    )
    assert (action.kind, action.gripper_polarity, action.frame) == (ActionKind.JOINT_VEL, None, "joints")


def test_the_command_leaves_the_robot_to_the_recipe(written: Callable[[Robot], Path], tmp_path: Path) -> None:
    asked = CheckpointOptions(checkpoint=written(ALOHA), name="arms", robots=())
    assert FAMILIES["openvla-oft"].default_robots == ()
    assert open_checkpoint(asked).manifest(version=1, sha256={}).robots == ("aloha",)
    (tmp_path / "empty").mkdir()
    where = ["--checkpoint", str(tmp_path / "empty"), "--repository", str(tmp_path / "repository")]
    refused = CliRunner().invoke(app, ["openvla-oft", "--name", "arms", *where])
    assert refused.exit_code == 1
    assert "config.json: not found" in refused.output
    assert not (tmp_path / "repository").exists()
