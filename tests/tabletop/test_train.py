"""Training lowers its own loss on a made-up task where colour decides the motion, and writes what it did."""

import json
from pathlib import Path

import numpy as np
import pytest

from tabletop import checkpoint
from tabletop.demos import LOG_FILE as DEMOS_LOG_FILE
from tabletop.demos import Demonstrations
from tabletop.train import LOG_FILE, Plan, train

pytestmark = pytest.mark.export


def _made_up(count: int = 64) -> Demonstrations:
    random = np.random.default_rng(0)
    colours = random.integers(0, 3, count)
    chunks = np.zeros((count, 8, 7), dtype=np.float32)
    chunks[:, :, 0] = (colours[:, None] - 1) * 0.02
    chunks[:, :, 6] = (colours == 2)[:, None]
    return Demonstrations(
        images=random.integers(0, 256, (count, 128, 128, 3), dtype=np.uint8),
        states=random.normal(size=(count, 8)).astype(np.float32),
        colours=colours,
        chunks=chunks,
        truth=random.normal(size=(count, 8)).astype(np.float32),
    )


def test_a_short_run_learns_and_writes_what_it_did(tmp_path: Path) -> None:
    _made_up().save(tmp_path / "demos", "one")
    (tmp_path / "demos" / DEMOS_LOG_FILE).write_text('{"episodes": 64}')
    said: list[str] = []
    log = train(tmp_path / "demos", tmp_path / "out", Plan(steps=60, batch=8, threads=1, report_every=30), said.append)
    assert [row["step"] for row in log["losses"]] == [30, 60]
    assert log["losses"][1]["motion"] < log["losses"][0]["motion"]
    assert len(said) == 2
    assert log["frames"] == 64
    assert json.loads((tmp_path / "out" / LOG_FILE).read_text()) == log
    checkpoint.load(tmp_path / "out")
