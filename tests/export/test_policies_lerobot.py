"""Reading LeRobot's folder: both generations of statistics, and one line about whatever is wrong with a file."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from export.policies.adapter import CheckpointError
from export.policies.lerobot.layout import Settings, read_settings, read_tensors
from export.policies.lerobot.normalisation import Mode, Normalisation, Scaling, network_weights, read_normalisation
from tests.export.lerobot_checkpoints import FIXTURES, Spoiled, spoil

pytestmark = pytest.mark.export
STATE_FILE = "policy_preprocessor_step_3_normalizer_processor.safetensors"


@pytest.fixture
def spoiled(tmp_path: Path) -> Spoiled:
    return spoil("act_tiny", tmp_path)


@pytest.fixture
def old(tmp_path: Path) -> Spoiled:
    return spoil("act_tiny_old", tmp_path)


def _read(folder: Path) -> Normalisation:
    weights = read_tensors(folder / "model.safetensors")
    return read_normalisation(folder, read_settings(folder, "act", Settings), weights)


def _refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        _read(folder)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_is_scaled_comes_back() -> None:
    values = torch.tensor([[0.5, -2.0, 7.0]])
    first, second = torch.tensor([0.0, -3.0, 1.0]), torch.tensor([1.0, 4.0, 9.0])
    for mode in Mode:
        scaling = Scaling(mode, () if mode is Mode.IDENTITY else (first, second), 1e-8)
        assert torch.allclose(scaling.inverse(scaling(values)), values, atol=1e-6), mode


def test_ranges_become_minus_one_to_one() -> None:
    low, high = torch.tensor([2.0]), torch.tensor([6.0])
    scaling = Scaling(Mode.QUANTILES, (low, high), 1e-8)
    assert scaling(torch.tensor([[2.0], [4.0], [6.0]])).flatten().tolist() == [-1.0, 0.0, 1.0]


def test_a_constant_column_becomes_minus_one_and_stays_constant() -> None:
    scaling = Scaling(Mode.MIN_MAX, (torch.tensor([0.3]), torch.tensor([0.3])), 1e-8)
    assert scaling(torch.tensor([0.3])).item() == -1.0
    assert scaling.inverse(torch.tensor([0.9])).item() == pytest.approx(0.3, abs=1e-6)


def test_every_feature_is_scaled_as_its_own_kind(old: Spoiled) -> None:
    found = _read(old.folder)
    assert {key: one.mode for key, one in found.inputs.items()} == {
        "observation.state": Mode.MIN_MAX,
        "observation.environment_state": Mode.MEAN_STD,
        "observation.image": Mode.IDENTITY,
    }


def test_either_name_of_the_actions_buffer_is_read(old: Spoiled) -> None:
    before = _read(old.folder).action
    names = {name for name in load_file(old.folder / "model.safetensors") if "buffer_action" in name}
    assert {name.split(".")[0] for name in names} == {"normalize_targets"}

    def other(found: dict[str, torch.Tensor]) -> None:
        for name in names:
            found[name.replace("normalize_targets", "unnormalize_outputs")] = found.pop(name)

    old.weights(other)
    assert torch.equal(_read(old.folder).action.first, before.first)


def test_statistics_are_no_weights(old: Spoiled) -> None:
    weights = read_tensors(old.folder / "model.safetensors")
    kept = network_weights(weights)
    assert len(kept) < len(weights)
    assert all(name.startswith("model.") for name in kept)


def test_a_pipeline_wins_over_what_the_configuration_says(spoiled: Spoiled) -> None:
    def by_range(found: dict[str, list[dict[str, dict[str, object]]]]) -> None:
        found["steps"][-1]["config"]["norm_map"] = {"STATE": "QUANTILES", "VISUAL": "IDENTITY"}

    spoiled.json("policy_preprocessor.json", by_range)
    found = _read(spoiled.folder)
    assert found.inputs["observation.state"].mode is Mode.QUANTILES
    assert found.inputs["observation.images.top"].mode is Mode.IDENTITY


def test_missing_statistics_are_refused_where_lerobot_would_say_nothing(spoiled: Spoiled) -> None:
    spoiled.weights(lambda found: found.pop("observation.state.std"), STATE_FILE)
    assert "lacks observation.state.std" in _refusal(spoiled.folder)


def test_missing_buffers_are_refused(old: Spoiled) -> None:
    old.weights(lambda found: found.pop("normalize_inputs.buffer_observation_state.min"))
    assert "lacks observation.state.min" in _refusal(old.folder)


def test_buffers_that_were_never_filled_are_refused(old: Spoiled) -> None:
    def endless(found: dict[str, torch.Tensor]) -> None:
        found["normalize_inputs.buffer_observation_state.min"].fill_(float("inf"))

    old.weights(endless)
    assert "never filled" in _refusal(old.folder)


def test_statistics_of_another_size_are_refused(spoiled: Spoiled) -> None:
    spoiled.weights(lambda found: found.update({"observation.state.std": torch.ones(5)}), STATE_FILE)
    assert "has the shape (5,)" in _refusal(spoiled.folder)


@pytest.mark.parametrize(("name", "said"), [("std", "state.std is below zero"), ("mean", "mean holds NaN")])
def test_statistics_that_are_none_are_refused(spoiled: Spoiled, name: str, said: str) -> None:
    value = torch.full((6,), -1.0 if name == "std" else float("nan"))
    spoiled.weights(lambda found: found.update({f"observation.state.{name}": value}), STATE_FILE)
    assert said in _refusal(spoiled.folder)


def test_a_range_that_is_turned_round_is_refused(old: Spoiled) -> None:
    value = torch.full((5,), 100.0)
    old.weights(lambda found: found.update({"normalize_inputs.buffer_observation_state.min": value}))
    assert "observation.state.max is below min" in _refusal(old.folder)


def test_a_checkpoint_without_any_statistics_is_refused(spoiled: Spoiled) -> None:
    (spoiled.folder / "policy_preprocessor.json").unlink()
    assert "no statistics" in _refusal(spoiled.folder)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("policy_postprocessor.json", "policy_postprocessor.json: not there"),
        (STATE_FILE, f"{STATE_FILE}: not there"),
        ("model.safetensors", "model.safetensors: not there"),
        ("config.json", "config.json: not there"),
    ],
)
def test_a_missing_file_is_named(spoiled: Spoiled, file: str, said: str) -> None:
    (spoiled.folder / file).unlink()
    assert said in _refusal(spoiled.folder)


@pytest.mark.parametrize("file", ["model.safetensors", STATE_FILE])
@pytest.mark.parametrize("kept", [0, 5, 900])
def test_a_cut_file_is_named(spoiled: Spoiled, file: str, kept: int) -> None:
    path = spoiled.folder / file
    path.write_bytes(path.read_bytes()[:kept])
    assert f"{file}: damaged or cut short" in _refusal(spoiled.folder)


def test_a_step_that_changes_numbers_unknown_here_is_refused(spoiled: Spoiled) -> None:
    spoiled.json("policy_preprocessor.json", lambda found: found["steps"].append({"registry_name": "delta_action_processor"}))
    assert "'delta_action_processor' is not known here" in _refusal(spoiled.folder)


def test_statistics_are_read_from_the_checkpoints_folder_only(spoiled: Spoiled, tmp_path: Path) -> None:
    shutil.copy(spoiled.folder / STATE_FILE, tmp_path / "outside.safetensors")
    spoiled.json("policy_preprocessor.json", lambda found: found["steps"][-1].update(state_file="../outside.safetensors"))
    assert "is not a file of this folder" in _refusal(spoiled.folder)


@pytest.mark.parametrize(("text", "said"), [("{", "cannot be read as JSON"), ("[]", "holds no object"), ("{}", "has no 'type'")])
def test_a_configuration_that_is_none_is_refused(spoiled: Spoiled, text: str, said: str) -> None:
    (spoiled.folder / "config.json").write_text(text)
    assert said in _refusal(spoiled.folder)


def test_an_unknown_way_of_scaling_is_refused(spoiled: Spoiled) -> None:
    spoiled.json("policy_preprocessor.json", lambda found: found["steps"][-1]["config"]["norm_map"].update(STATE="LOG"))
    assert "scaled by 'LOG'" in _refusal(spoiled.folder)


def test_a_folder_of_another_family_says_so() -> None:
    with pytest.raises(CheckpointError, match="is a 'act' policy, not 'smolvla'"):
        read_settings(FIXTURES / "act_tiny", "smolvla", Settings)
