"""The picture is there, of the promised size, and not empty; how it looks is for the eye."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.benchmark.plot import write_plot
from export.benchmark.result import Mode, Result
from tests.export.benchmark.making import level, result

pytestmark = pytest.mark.export
RATE = level(50, mode=Mode.REQUEST_RATE)


@pytest.mark.parametrize(
    "whole",
    [result(RATE), result(level(1), level(8), replace(RATE, is_stable=False), in_process=None)],
    ids=["one level", "both modes"],
)
def test_a_picture_shows_every_kind_of_result(whole: Result, tmp_path: Path) -> None:
    write_plot(whole, tmp_path / "benchmark.png")
    pixels = np.asarray(Image.open(tmp_path / "benchmark.png").convert("RGB"))
    assert pixels.shape == (624, 1500, 3)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
