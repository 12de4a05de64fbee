"""Pictures: deterministic, of the asked size, with the cubes in them; a clear message where nothing can be drawn."""

import numpy as np
import pytest

from tabletop import render
from tabletop.appearance import Appearance
from tabletop.render import Camera, RenderUnavailable
from tabletop.scene import Tabletop

pytestmark = pytest.mark.export


def test_the_same_seed_is_the_same_picture(table: Tabletop, camera: Camera) -> None:
    appearance, pictures = Appearance(table), []
    for seed in (1, 2, 1):
        table.reset(seed)
        appearance.vary(seed)
        pictures.append(camera.picture())
    assert pictures[0].shape == (128, 128, 3)
    assert np.array_equal(pictures[0], pictures[2])
    assert not np.array_equal(pictures[0], pictures[1])


def test_every_cube_is_seen(table: Tabletop, camera: Camera) -> None:
    table.reset(7)
    picture = camera.picture().astype(int)
    for channel in range(3):
        others = np.delete(picture, channel, axis=2).max(axis=2)
        assert ((picture[..., channel] - others) > 60).sum() > 20


def test_without_opengl_the_message_names_the_package(table: Tabletop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "_loads", {}.get)
    with pytest.raises(RenderUnavailable, match="apt install libegl1"):
        Camera(table, size_px=64)


def test_a_library_that_does_not_work_is_named_too(table: Tabletop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(size_px: int) -> None:
        raise RuntimeError("no display")

    monkeypatch.setattr(render, "_loads", {"libEGL.so.1": True}.get)
    monkeypatch.setattr(render, "_egl", broken)
    with pytest.raises(RenderUnavailable, match=r"apt install libegl1.*libEGL.so.1: no display"):
        Camera(table, size_px=64)
