"""Statistics are read as published, and a bin means what the original says it means."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.contract.statistics import Bounds
from export.policies.adapter import CheckpointError
from export.policies.openvla.actions import read_statistics, table
from tests.export.openvla_checkpoint import statistics

pytestmark = pytest.mark.export


def _folder(folder: Path, norm_stats: Any, *, replaced_by: Any = None) -> Path:
    (folder / "config.json").write_text(json.dumps({"norm_stats": norm_stats}))
    if replaced_by is not None:
        (folder / "dataset_statistics.json").write_text(json.dumps(replaced_by))
    return folder


def test_the_training_run_s_statistics_replace_the_config_s(tmp_path: Path) -> None:
    folder = _folder(tmp_path, {"a": statistics(7)}, replaced_by={"b": statistics(6)})
    assert list(read_statistics(folder, None)) == ["b"]


def test_without_a_mask_every_number_is_scaled(tmp_path: Path) -> None:
    assert read_statistics(_folder(tmp_path, {"a": statistics(3, has_mask=False)}), None)["a"].mask == (True, True, True)


def test_keys_of_different_lengths_need_a_choice(tmp_path: Path) -> None:
    folder = _folder(tmp_path, {"arm": statistics(7), "two_arms": statistics(14), "other_arm": statistics(7, seed=1)})
    with pytest.raises(CheckpointError, match=r"arm 7, two_arms 14, other_arm 7.*choose keys"):
        read_statistics(folder, None)
    assert list(read_statistics(folder, ("other_arm", "arm"))) == ["other_arm", "arm"]
    with pytest.raises(CheckpointError, match="choose keys"):
        read_statistics(folder, ("arm", "two_arms"))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"action": {"mean": [0.0], "std": [1.0]}}, "lacks q01 and q99"),
        ({"proprio": {}}, "lacks q01 and q99"),
        ("text", "lacks q01 and q99"),
        ({"action": {"q01": [0.0], "q99": [1.0, 2.0]}}, "1, 2 and 1 numbers"),
        ({"action": {"q01": [0.0], "q99": [1.0], "mask": [True, True]}}, "1, 1 and 2 numbers"),
        ({"action": {"q01": [], "q99": []}}, "must agree"),
        ({"action": {"q01": [0.0], "q99": [float("nan")]}}, "finite numbers"),
        ({"action": {"q01": 0.0, "q99": 1.0}}, "finite numbers"),
        ({"action": {"q01": [1.0], "q99": [0.0]}}, "q01 is above q99"),
    ],
    ids=str,
)
def test_statistics_that_scale_nothing_are_named(tmp_path: Path, entry: Any, said: str) -> None:
    with pytest.raises(CheckpointError) as refused:
        read_statistics(_folder(tmp_path, {"bridge": entry}), None)
    assert said in str(refused.value)
    assert "norm_stats[bridge]" in str(refused.value)


def test_an_unknown_key_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="unknown unnorm key 'bridg'; the checkpoint knows 'bridge', 'sim'"):
        read_statistics(_folder(tmp_path, {"bridge": statistics(7), "sim": statistics(7)}), ("bridg",))


@pytest.mark.parametrize("nothing", [None, {}, []])
def test_a_checkpoint_without_statistics_is_refused(tmp_path: Path, nothing: Any) -> None:
    with pytest.raises(CheckpointError, match="add the dataset_statistics"):
        read_statistics(_folder(tmp_path, nothing), None)


def test_a_bin_means_its_centre_and_masked_numbers_pass_through() -> None:
    one = Bounds(scheme="bounds_q99", low=(-2.0, 0.0), high=(4.0, 1.0), mask=(True, False), epsilon=0.0)
    found = table({"a": one}, n_action_bins=256)
    assert found.shape == (1, 2, 255)
    assert found[0, 1, 0] == np.float32(-1 + 1 / 255)
    assert found[0, 1, 254] == np.float32(1 - 1 / 255)
    assert found[0, 0, 127] == np.float32(1.0)  # the middle bin is the middle of the bounds
