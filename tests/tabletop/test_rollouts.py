"""A recorded episode has everything that calibration reads, and says honestly whether it succeeded."""

from pathlib import Path

import numpy as np
import pytest

from export.contract.tokenize import InstructionTokenizer
from tabletop.checkpoint import FOLDER
from tabletop.drive import Policy, from_onnx
from tabletop.evaluate import Condition
from tabletop.instructions import SPEC
from tabletop.rollouts import FIRST_ROLLOUT, record

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("camera")]


def test_every_episode_is_one_file_in_the_format_of_calibration(tmp_path: Path) -> None:
    lazy = Policy(network=lambda _: np.zeros((1, 8, 7), dtype=np.float32), tokenizer=InstructionTokenizer(FOLDER, SPEC))
    assert record(lazy, tmp_path, 2, Condition(name="lazy", execute=4)) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"seed-{FIRST_ROLLOUT + index}.npz" for index in range(2)]
    with np.load(tmp_path / f"seed-{FIRST_ROLLOUT}.npz", allow_pickle=False) as file:
        assert (file["chunks"].shape, file["chunks"].dtype) == ((30, 8, 7), np.float32)
        assert file["executed_index"].tolist() == [3] * 29
        assert not bool(file["is_success"])


def test_the_served_policy_gives_successful_rollouts_that_end_when_the_cube_is_lifted(tmp_path: Path) -> None:
    policy = from_onnx(Path("model_repository/tabletop/1/model.onnx"))
    assert record(policy, tmp_path, 2, Condition(name="served", execute=4)) >= 1
    for path in tmp_path.iterdir():
        with np.load(path, allow_pickle=False) as file:
            assert len(file["chunks"]) == len(file["executed_index"]) + 1 <= 30
