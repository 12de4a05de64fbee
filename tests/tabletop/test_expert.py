"""The expert picks up what is named, whatever happens on the way, and never asks for more speed than the guard allows."""

import numpy as np
import pytest

from tabletop.expert import SHIFT_CAP_M, TURN_CAP_RAD, expert_action
from tabletop.instructions import COLOURS
from tabletop.scene import Tabletop

pytestmark = pytest.mark.export


def _run(table: Tabletop, seed: int, colour: str, noise_m: float) -> bool:
    table.reset(seed)
    random = np.random.default_rng(seed)
    for _ in range(80):
        action = expert_action(table.view, colour)
        assert np.linalg.norm(action[:3]) <= SHIFT_CAP_M + 1e-6
        assert np.linalg.norm(action[3:6]) <= TURN_CAP_RAD + 1e-6
        assert action[6] in (0.0, 1.0)
        action[:3] += random.normal(size=3) * noise_m
        table.apply(action)
        if table.view.is_lifted(colour):
            return not any(table.view.is_lifted(other) for other in COLOURS if other != colour)
    return False


@pytest.mark.parametrize("noise_m", [0.0, 0.008])
def test_it_lifts_the_named_cube_and_no_other(table: Tabletop, noise_m: float) -> None:
    assert [seed for seed in range(12) if not _run(table, seed, COLOURS[seed % 3], noise_m)] == []


def test_it_opens_again_after_closing_on_nothing(table: Tabletop) -> None:
    table.reset(4)
    for _ in range(4):
        table.apply(np.array([0, 0, 0, 0, 0, 0, 1.0]))
    assert expert_action(table.view, "red")[6] == 0.0
