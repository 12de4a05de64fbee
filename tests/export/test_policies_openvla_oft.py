"""OpenVLA-OFT answers as the original code did, on checkpoints of three platforms; every input matters, padding does not."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from export.contract.facts import GripperPolarity
from export.contract.manifest import Manifest
from export.contract.preprocess import resize
from export.contract.statistics import Bounds
from export.policies.adapter import CheckpointOptions
from export.policies.openvla_oft import open_checkpoint
from export.policies.openvla_oft.network import Oft
from export.policies.openvla_oft.policy import OftPolicy
from safety.action_space import ActionKind, ActionSpace, UnsupportedActionSpaceError
from safety.action_space import GripperPolarity as GuardsPolarity
from tests.export.openvla_oft_checkpoint import ROBOTS, digest, write
from tests.export.openvla_oft_reference import OSC_POSE, REFERENCE, cases, expected, picture, wire

pytestmark = pytest.mark.export
CLOSE = 1e-5  # the original's own float32 rounding; its bfloat16 moves by 0.05
FAR = 1e-3
Opened = Callable[[str], OftPolicy]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    found: dict[str, OftPolicy] = {}

    def open_once(robot: str) -> OftPolicy:
        if robot not in found:
            folder = tmp_path_factory.mktemp(robot)
            write(ROBOTS[robot], folder)
            found[robot] = open_checkpoint(CheckpointOptions(checkpoint=folder, name=f"oft-{robot}", robots=("franka_panda",)))
        return found[robot]

    return open_once


def _as_the_guard_reads(manifest: Manifest) -> ActionSpace:
    action = manifest.action
    return ActionSpace(
        kind=ActionKind(action.kind),
        names=action.names,
        units=action.units,
        control_hz=action.control_hz,
        gripper_polarity=GuardsPolarity(str(action.gripper_polarity)),
        frame=action.frame,
    )


def _wire(policy: OftPolicy, robot: str) -> dict[str, Tensor]:
    found = wire(policy.manifest(version=1, sha256={}), policy.facts.options.checkpoint, robot)
    return {name: torch.from_numpy(value) for name, value in found.items()}


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_checkpoint_is_the_one_that_the_original_answered(robot: str) -> None:
    assert digest(ROBOTS[robot]) == REFERENCE["robots"][robot]["checkpoint_sha256"]


@pytest.mark.parametrize("robot", ROBOTS)
def test_actions_are_those_of_the_original_code(opened: Opened, robot: str) -> None:
    policy = opened(robot)
    (found,) = policy.answers(_wire(policy, robot))
    assert np.abs(found.numpy() - expected(robot, "actions")).max() < CLOSE


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_padded_batch_of_mixed_lengths_answers_as_the_original_one_by_one(opened: Opened, robot: str) -> None:
    policy, inputs = opened(robot), _wire(opened(robot), robot)
    assert len({int((row != 32000).sum()) for row in inputs["instruction_ids"]}) == 3
    with torch.inference_mode():
        found = policy.network()(**inputs)
    assert np.abs(found.numpy() - expected(robot, "actions")).max() < CLOSE


@pytest.mark.parametrize("robot", ROBOTS)
def test_prompts_become_the_ids_of_the_original_and_then_padding(opened: Opened, robot: str) -> None:
    for row, case in zip(_wire(opened(robot), robot)["instruction_ids"].tolist(), cases(robot), strict=True):
        length = len(case["input_ids"])
        assert row[:length] == case["input_ids"]
        assert set(row[length:]) == {32000}


@pytest.mark.parametrize(("robot", "group"), [("libero", "rotated"), ("aloha", "upright")])
def test_pictures_are_turned_and_cropped_to_the_same_bytes_as_by_tensorflow(opened: Opened, robot: str, group: str) -> None:
    camera = opened(robot).manifest(version=1, sha256={}).primary_camera
    for view, wanted in REFERENCE["cropped_sha256"][group].items():
        assert hashlib.sha256(resize(picture(view), camera).tobytes()).hexdigest() == wanted


@pytest.mark.parametrize("robot", ["libero", "aloha"])
def test_the_state_is_scaled_and_clipped_as_by_the_original(opened: Opened, robot: str) -> None:
    policy, inputs = opened(robot), _wire(opened(robot), robot)
    table, wanted = policy.network().state_table, expected(robot, "normalised_state")
    assert table is not None
    assert np.abs(table.normalise(inputs["state"], inputs["unnorm_index"]).numpy() - wanted).max() < CLOSE
    assert (wanted == 1.0).any()


@pytest.mark.parametrize("robot", ROBOTS)
def test_chunk_dimensions_and_bounds_follow_from_the_checkpoint(opened: Opened, robot: str) -> None:
    manifest, constants = opened(robot).manifest(version=1, sha256={}), REFERENCE["robots"][robot]["constants"]
    assert (manifest.action.horizon, len(manifest.action.names)) == (constants["chunk"], constants["action"])
    assert {one.scheme for one in manifest.action.statistics.values()} == {constants["scheme"]}
    if manifest.state is not None:
        assert len(manifest.state.names) == constants["proprio"]
        assert {one.scheme for one in manifest.state.statistics.values()} == {constants["scheme"]}


def test_the_manifest_says_what_a_libero_client_must_know(opened: Opened) -> None:
    manifest = opened("libero").manifest(version=3, sha256={})
    assert [camera.name for camera in manifest.cameras] == ["primary", "wrist"]
    assert all(camera.rotate_180 and camera.crop_area == 0.9 and camera.is_required for camera in manifest.cameras)
    assert manifest.action.gripper_polarity is GripperPolarity.ONE_IS_OPEN
    assert manifest.action.units == ("m",) * 3 + ("rad",) * 3 + ("fraction",)
    assert _as_the_guard_reads(manifest).units == manifest.action.units
    assert "sign(1 - 2·gripper)" in manifest.description
    assert manifest.action.unnorm_tensor == "unnorm_index"
    bounds = manifest.action.statistics["libero_goal_no_noops"]
    assert isinstance(bounds, Bounds)
    assert bounds.epsilon == 1e-8
    assert bounds.mask == (True,) * 6 + (False,)


def test_a_policy_without_state_does_not_ask_for_one(opened: Opened) -> None:
    policy = opened("bridge")
    manifest = policy.manifest(version=1, sha256={})
    assert manifest.state is None
    assert set(policy.examples()) == {"image", "instruction_ids", "unnorm_index"}


def test_examples_are_the_same_every_time_and_use_every_key(opened: Opened) -> None:
    one, other = opened("libero").examples(), opened("libero").examples()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert set(one["unnorm_index"].flatten().tolist()) == {0, 1}


@pytest.mark.parametrize("robot", ["libero", "aloha"])
def test_every_input_moves_the_actions(opened: Opened, robot: str) -> None:
    policy, inputs = opened(robot), {name: value[:1] for name, value in _wire(opened(robot), robot).items()}
    (before,) = policy.answers(inputs)
    for name in inputs if robot == "libero" else inputs.keys() - {"unnorm_index"}:
        (after,) = policy.answers(inputs | {name: _other(name, inputs[name])})
        assert (after - before).abs().max() > FAR, name


def _other(name: str, value: Tensor) -> Tensor:
    match name:
        case "instruction_ids":
            other = value.clone()
            other[0, 10] = 590
            return other
        case "unnorm_index":
            return 1 - value
        case "state":
            return value + 0.05
        case _:
            return 255 - value


def test_a_prompt_of_nothing_but_padding_still_answers_for_the_canary(opened: Opened) -> None:
    inputs = {name: value[:2] for name, value in _wire(opened("libero"), "libero").items()}
    nothing = torch.full_like(inputs["instruction_ids"], 32000)
    with torch.inference_mode():
        assert opened("libero").network()(**inputs | {"instruction_ids": nothing}).isfinite().all()


class _OneWay(Oft):
    """As a Llama that was not changed: no token looks ahead."""

    def _mask(self, seen: Tensor, is_word: Tensor) -> Tensor:
        mask = super()._mask(seen, is_word)
        return mask & torch.ones(mask.shape[3], mask.shape[3], dtype=torch.bool).tril()


class _CountsPadding(Oft):
    """The empty tokens stand behind the padding instead of behind the prompt."""

    def _positions(self, pictured: int, is_word: Tensor) -> Tensor:
        return super()._positions(pictured, torch.ones_like(is_word))


class _SeesPadding(Oft):
    """Padding is looked at like words."""

    def _mask(self, seen: Tensor, is_word: Tensor) -> Tensor:
        return super()._mask(seen, torch.ones_like(is_word))


@pytest.mark.parametrize("mistake", [_OneWay, _CountsPadding, _SeesPadding])
def test_the_reference_would_notice_a_wrong_mask_or_wrong_positions(opened: Opened, mistake: type[Oft]) -> None:
    policy, inputs = opened("libero"), _wire(opened("libero"), "libero")
    network = policy.network()
    oft = network.oft
    network.oft = mistake(oft.vla, oft.action_head, oft.proprio_projector, horizon=8)
    try:
        with torch.inference_mode():
            found = network(**inputs)
    finally:
        network.oft = oft
    assert np.abs(found.numpy() - expected("libero", "actions")).max() > FAR


@pytest.mark.parametrize(
    ("stated", "in_metres"),
    [
        ({"action_units": ["0.05 m"] * 3 + ["0.5 rad"] * 3 + ["fraction"]}, OSC_POSE),
        ({"action_scale": [0.1] * 6 + [1.0]}, (0.5,) * 3 + (5.0,) * 3 + (1.0,)),
        ({"action_units": ["m"] * 3 + ["rad"] * 3 + ["fraction"]}, (1.0,) * 7),
    ],
    ids=["as-trained", "another-scale", "what-is-known-anyway"],
)
def test_stated_units_and_scale_count_above_what_is_known_of_libero(
    stated: dict[str, object], in_metres: tuple[float, ...], tmp_path: Path
) -> None:
    write(ROBOTS["libero"], tmp_path)
    (tmp_path / "openvla_oft.json").write_text(json.dumps(stated))
    policy = open_checkpoint(CheckpointOptions(checkpoint=tmp_path, name="stated", robots=("franka_panda",)))
    (found,) = policy.answers({name: value[:2] for name, value in _wire(policy, "libero").items()})
    assert np.abs(found.numpy() * in_metres - expected("libero", "actions")[:2]).max() < CLOSE
    manifest = policy.manifest(version=1, sha256={})
    if in_metres == OSC_POSE:
        with pytest.raises(UnsupportedActionSpaceError, match="units"):
            _as_the_guard_reads(manifest)
