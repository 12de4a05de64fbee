"""Pictures of a simulated table, drawn off screen without a GPU or display.

By EGL or else OSMesa; where neither is installed it says which Debian package to install. It knows no policy; `appearance`
changes colours and light, this file only draws what the model says.
"""

import ctypes
import os
from types import TracebackType
from typing import Protocol, Self

import mujoco
import numpy as np
from numpy.typing import NDArray

from tabletop.scene import Tabletop
from tabletop.world import FRONT

_HINT = "no off-screen OpenGL here; on Debian and Ubuntu: apt install libegl1 libgl1-mesa-dri (or libosmesa6)"


class RenderUnavailable(RuntimeError):  # noqa: N818 -- reads as what happened
    """This machine has no OpenGL library that can draw off screen; the text names the package."""


class _Context(Protocol):
    def make_current(self) -> None: ...
    def free(self) -> None: ...


class Camera:
    """Draws one size from one of the table's cameras. Use as a context manager: it owns an OpenGL context of this thread."""

    def __init__(self, table: Tabletop, *, size_px: int, name: str = FRONT) -> None:
        self._table = table
        self._context = _open_context(size_px)
        self._context.make_current()
        table.model.vis.global_.offwidth = table.model.vis.global_.offheight = size_px
        self._scene = mujoco.MjvScene(table.model, maxgeom=200)
        self._drawing = mujoco.MjrContext(table.model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._drawing)
        self._rectangle = mujoco.MjrRect(0, 0, size_px, size_px)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[3] = 0  # collision boxes are not seen
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = table.model.camera(name).id
        self._pixels = np.empty((size_px, size_px, 3), dtype=np.uint8)

    def picture(self) -> NDArray[np.uint8]:
        """(size, size, 3) RGB of the table as it is now."""
        self._context.make_current()
        model, data = self._table.model, self._table.data
        mujoco.mjv_updateScene(model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene)
        mujoco.mjr_render(self._rectangle, self._scene, self._drawing)
        mujoco.mjr_readPixels(self._pixels, None, self._rectangle, self._drawing)
        return np.flipud(self._pixels).copy()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Gives the context back; nothing can be drawn any more."""
        self._context.make_current()
        self._drawing.free()
        self._context.free()


def _open_context(size_px: int) -> _Context:
    """Decided by which library loads, because PyOpenGL can only ever use one of them in a process."""
    for library, open_context in (("libEGL.so.1", _egl), ("libOSMesa.so.8", _osmesa)):
        if _loads(library):
            try:
                return open_context(size_px)
            except (ImportError, AttributeError, OSError, RuntimeError) as error:
                raise RenderUnavailable(f"{_HINT} [{library}: {error}]") from None
    raise RenderUnavailable(_HINT)


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _egl(size_px: int) -> _Context:
    from mujoco.egl import GLContext

    return GLContext(size_px, size_px)


def _osmesa(size_px: int) -> _Context:
    os.environ["PYOPENGL_PLATFORM"] = "osmesa"  # read when PyOpenGL is first imported
    from mujoco.osmesa import GLContext

    return GLContext(size_px, size_px)
