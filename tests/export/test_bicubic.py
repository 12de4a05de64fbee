"""Our own resize against Pillow's, byte by byte, and what happens where it cannot be compiled."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from export.contract import bicubic as module
from export.contract.bicubic import bicubic, by_pillow, is_compiled, library_path
from export.contract.compile_bicubic import compile_to

ROOT = Path(__file__).parents[2]
_COMPILER = shutil.which("cc") or shutil.which("gcc")
compiled = pytest.mark.skipif(_COMPILER is None or os.uname().machine != "x86_64", reason="no C compiler, or no x86-64")


@pytest.fixture(scope="module")
def _library(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What `make` compiles, compiled here where somebody runs this file alone."""
    if not is_compiled() and _COMPILER is not None:
        compile_to(library_path(), compiler=_COMPILER)
        module._library.cache_clear()
    assert is_compiled()


def _noise(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def _hard(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    """Black and white only: the cubic overshoots in both directions."""
    return np.where(_noise(rng, width, height) > 127, np.uint8(255), np.uint8(0))


@compiled
@pytest.mark.usefixtures("_library")
@pytest.mark.parametrize("picture", [_noise, _hard])
def test_it_gives_pillows_bytes_for_any_two_sizes(
    picture: Callable[[np.random.Generator, int, int], NDArray[np.uint8]],
) -> None:
    rng = np.random.default_rng(7)
    for _ in range(150):
        width, height, wide, high = (int(side) for side in rng.integers(1, [500, 500, 260, 260]))
        pixels = picture(rng, width, height)
        before = pixels.copy()
        found = bicubic(pixels, (wide, high))
        assert found.shape == (high, wide, 3)
        assert np.array_equal(found, by_pillow(pixels, (wide, high))), (width, height, wide, high)
        assert np.array_equal(pixels, before)


@compiled
@pytest.mark.usefixtures("_library")
@pytest.mark.parametrize(
    "before", [(1, 1), (1, 900), (900, 1), (640, 480), (1280, 720), (8192, 2), (2, 8192), (8193, 3), (3, 8193)]
)
@pytest.mark.parametrize("after", [(1, 1), (5, 9), (6, 6), (7, 3), (224, 224), (384, 384)])
def test_it_gives_pillows_bytes_at_the_edges(before: tuple[int, int], after: tuple[int, int]) -> None:
    pixels = _hard(np.random.default_rng(0), *before)
    assert np.array_equal(bicubic(pixels, after), by_pillow(pixels, after))


@compiled
@pytest.mark.usefixtures("_library")
def test_a_turned_view_is_read_as_it_looks() -> None:
    pixels = _noise(np.random.default_rng(0), 64, 48)[::-1, ::-1]
    assert np.array_equal(bicubic(pixels, (32, 32)), by_pillow(np.ascontiguousarray(pixels), (32, 32)))


def test_wide_pictures_are_what_one_call_of_pillow_gives() -> None:
    pixels = _noise(np.random.default_rng(0), 640, 480)
    expected = np.asarray(Image.fromarray(pixels).resize((224, 224), Image.Resampling.BICUBIC))
    assert np.array_equal(bicubic(pixels, (224, 224)), expected)


def test_tall_pictures_are_resized_across_first_as_every_checkpoint_was_trained() -> None:
    """Pillow 13 begins with the rows where many of them go; the hash is of what Pillow 12.1 gives in one call."""
    found = bicubic(_hard(np.random.default_rng(3), 48, 200), (40, 24))
    assert hashlib.sha256(found.tobytes()).hexdigest() == "45fa99b0c018fc756a161706777dc86b6472203d6e2e8c10f06b446c9a3e0afe"


# Reads one byte too many or writes one too far, and the process ends: behind each buffer lies a page that nobody may touch.
_FENCED = """
import ctypes, mmap
import numpy as np
from export.contract import bicubic as module

libc, kept, page = ctypes.CDLL(None, use_errno=True), [], mmap.PAGESIZE

def fenced(shape, dtype=np.uint8):
    size = int(np.prod(shape))
    pages = -(-size // page)
    whole = mmap.mmap(-1, (pages + 1) * page)
    kept.append(whole)
    start = ctypes.addressof(ctypes.c_char.from_buffer(whole))
    assert libc.mprotect(ctypes.c_void_p(start + pages * page), page, 0) == 0
    return np.frombuffer(whole, np.uint8, size, pages * page - size).reshape(shape)

assert module.is_compiled()
rng = np.random.default_rng(5)
own = {"empty": staticmethod(fenced), "zeros": staticmethod(fenced)}
module.np = type("Fenced", (), {**{name: getattr(np, name) for name in dir(np)}, **own})
sizes = [(6, 1, 6, 6), (7, 5, 6, 9), (9, 1, 30, 1), (224, 224, 128, 128), (33, 2, 7, 7), (500, 3, 6, 1), (61, 40, 90, 41)]
for width, height, wide, high in sizes:
    pixels = fenced((height, width, 3))
    pixels[:] = rng.integers(0, 256, pixels.shape)
    found = module.bicubic(pixels, (wide, high))
    assert np.array_equal(found, module.by_pillow(pixels, (wide, high)))
print("whole")
"""


@compiled
@pytest.mark.usefixtures("_library")
def test_it_touches_nothing_outside_its_buffers() -> None:
    done = subprocess.run([sys.executable, "-c", _FENCED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr[-2000:]


def test_without_the_library_pillow_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = _hard(np.random.default_rng(0), 65, 40)
    found = bicubic(pixels, (30, 31))
    monkeypatch.setattr(module, "_library", lambda: None)
    assert np.array_equal(bicubic(pixels, (30, 31)), found)


@pytest.mark.parametrize(
    ("compiler", "says"),
    [("", "no C compiler"), ("false", "false failed"), ("no-such-compiler -O", "no-such-compiler -O failed")],
)
def test_who_cannot_compile_is_told_and_goes_on(tmp_path: Path, compiler: str, says: str) -> None:
    copy = tmp_path / "export" / "contract"
    copy.mkdir(parents=True)
    (tmp_path / "export/__init__.py").touch()
    for name in ("__init__.py", "bicubic.py", "bicubic.c", "compile_bicubic.py"):
        shutil.copy(ROOT / "export/contract" / name, copy)
    environment = {"PATH": "/nowhere" if not compiler else os.environ["PATH"], "CC": compiler, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "export.contract.compile_bicubic"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout
    assert not [*copy.glob("*.so"), *copy.glob(".bicubic-*")]
