"""Where a point appears in the picture is where the simulator's camera draws it."""

import numpy as np
import pytest

from tabletop.batches import looked_at
from tabletop.contract import CAMERA
from tabletop.network import CELLS
from tabletop.optics import in_picture
from tabletop.render import Camera
from tabletop.scene import Tabletop

pytestmark = pytest.mark.export
_RED_IS_BRIGHTER_BY = 60


def _gap(table: Tabletop) -> np.ndarray:
    return table.view.things["red cube"].position - table.tool.position


def test_the_red_cube_is_drawn_where_it_is_said_to_be(table: Tabletop, camera: Camera) -> None:
    for seed in range(3):
        table.reset(seed)
        picture = camera.picture().astype(int)
        is_red = picture[:, :, 0] - picture[:, :, 1:].max(-1) > _RED_IS_BRIGHTER_BY
        rows, columns = np.nonzero(is_red)
        expected = (np.array([columns.mean(), rows.mean()]) + 0.5) / CAMERA.width
        np.testing.assert_allclose(in_picture(table.view.things["red cube"].position[None])[0], expected, atol=0.02)


def test_training_is_told_to_look_at_tool_and_goal(table: Tabletop) -> None:
    table.reset(1)
    truth = np.array([[*table.tool.position, 0.08, *_gap(table), 0.0]], dtype=np.float32)
    cells, shares = looked_at(truth)
    assert shares.sum(-1) == pytest.approx(np.ones((1, 2)))
    for point, around, share in zip(
        (table.tool.position, table.view.things["red cube"].position), cells[0], shares[0], strict=True
    ):
        column, row = float(around % CELLS @ share), float(around // CELLS @ share)
        stride = CAMERA.width / CELLS
        found = (np.array([column, row]) * stride + 0.5) / CAMERA.width
        np.testing.assert_allclose(found, in_picture(point[None])[0], atol=1e-5)


def test_nobody_is_told_to_look_where_there_is_nothing_to_see() -> None:
    unknown = np.zeros(8)
    behind = np.array([1.4, 0.5, 0.9, 0.08, 0.0, 0.0, 0.0, 0.0])
    beside = np.array([0.4, -2.0, 0.1, 0.08, 0.0, 0.0, 0.0, 0.0])
    cells, shares = looked_at(np.array([unknown, behind, beside], dtype=np.float32))
    assert not shares.any()
    assert cells.min() >= 0
    assert cells.max() < CELLS**2
