"""All but the language tests need MuJoCo and torch; those that draw are skipped where this machine has no off-screen OpenGL."""

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

_CAN_SIMULATE = all(importlib.util.find_spec(module) for module in ("mujoco", "torch", "onnxruntime"))
collect_ignore_glob = [] if _CAN_SIMULATE else ["test_[!i]*.py"]

if TYPE_CHECKING:
    from tabletop.render import Camera
    from tabletop.scene import Tabletop


@pytest.fixture
def table() -> "Tabletop":
    """A table as built, not yet reset."""
    from tabletop.scene import Tabletop

    return Tabletop()


@pytest.fixture
def camera(table: "Tabletop") -> Iterator["Camera"]:
    """A camera of 128×128 on `table`; skips with the package to install where nothing can be drawn."""
    from tabletop.render import Camera, RenderUnavailable

    try:
        opened = Camera(table, size_px=128)
    except RenderUnavailable as unavailable:
        pytest.skip(str(unavailable))
    with opened:
        yield opened
