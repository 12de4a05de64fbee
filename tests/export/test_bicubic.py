"""Our own resize against Pillow's, byte by byte, and what happens where it cannot be compiled."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

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


_NEEDS = {"avx2": {"avx2"}, "vnni": {"avx512f", "avx512bw", "avx512vl", "avx512_vnni"}}
_WAYS = {"avx2": module._AVX2, "vnni": module._VNNI}


@pytest.fixture(scope="module")
def _library() -> Any:
    """What `make` compiles, compiled here where somebody runs this file alone."""
    if not is_compiled() and _COMPILER is not None:
        compile_to(library_path(), compiler=_COMPILER)
        module._library.cache_clear()
        module._fastest.cache_clear()
    assert is_compiled()
    return module._library()


@pytest.fixture(params=_WAYS)
def way(request: pytest.FixtureRequest, _library: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The resize goes this way, whether it is the fastest here or not."""
    name = str(request.param)
    _skip_unless_the_processor_has(name)
    assert _library.is_supported(_WAYS[name])
    resizer = module._Resizer(_library, _WAYS[name])
    monkeypatch.setattr(module, "_fastest", lambda: resizer)
    return name


def _skip_unless_the_processor_has(way: str) -> None:
    missing = _NEEDS[way] - set(Path("/proc/cpuinfo").read_text().split())
    if missing:
        pytest.skip(f"this processor has no {', '.join(sorted(missing))}")


def _noise(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def _hard(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    """Black and white only: the cubic overshoots in both directions."""
    return np.where(_noise(rng, width, height) > 127, np.uint8(255), np.uint8(0))


@compiled
@pytest.mark.usefixtures("way")
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
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "before", [(1, 1), (1, 900), (900, 1), (640, 480), (1280, 720), (8192, 2), (2, 8192), (8193, 3), (3, 8193)]
)
@pytest.mark.parametrize("after", [(1, 1), (5, 9), (10, 6), (11, 3), (224, 224), (384, 384)])
def test_it_gives_pillows_bytes_at_the_edges(before: tuple[int, int], after: tuple[int, int]) -> None:
    pixels = _hard(np.random.default_rng(0), *before)
    assert np.array_equal(bicubic(pixels, after), by_pillow(pixels, after))


@compiled
@pytest.mark.usefixtures("way")
def test_few_rows_and_every_remainder_of_four() -> None:
    for before, wide, high in product([1, 2, 3, 5, 8, 9], [11, 12, 13, 14], [1, 4, 7]):
        pixels = _hard(np.random.default_rng(before), 37, before)
        assert np.array_equal(bicubic(pixels, (wide, high)), by_pillow(pixels, (wide, high))), (before, wide, high)


@compiled
@pytest.mark.usefixtures("way")
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


# Reads one byte too many or writes one too far, and the process ends: before or behind each buffer, the weights too, lies a page
# that nobody may touch.
_FENCED = """
import ctypes, mmap, sys
import numpy as np
from export.contract import bicubic as module

libc, kept, page, is_before = ctypes.CDLL(None, use_errno=True), [], mmap.PAGESIZE, False

def fenced(shape, dtype=np.uint8):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    pages = -(-size // page)
    whole = mmap.mmap(-1, (pages + 1) * page)
    kept.append(whole)
    start = ctypes.addressof(ctypes.c_char.from_buffer(whole))
    assert libc.mprotect(ctypes.c_void_p(start + (0 if is_before else pages * page)), page, 0) == 0
    offset = page if is_before else pages * page - size
    return np.frombuffer(whole, np.uint8, size, offset).view(dtype).reshape(shape)

def fenced_copy(array):
    copy = fenced(array.shape, array.dtype)
    copy[...] = array
    return copy

resizer = module._Resizer(module._library(), int(sys.argv[1]))
module._fastest = lambda: resizer
rng = np.random.default_rng(5)
def fenced_whole(parts):
    return fenced_copy(np.concatenate(parts))

own = {"empty": fenced, "zeros": fenced, "ascontiguousarray": fenced_copy, "concatenate": fenced_whole}
own = {name: staticmethod(each) for name, each in own.items()}
module.np = type("Fenced", (), {**{name: getattr(np, name) for name in dir(np)}, **own})
sizes = [(11, 1, 11, 6), (12, 5, 11, 9), (9, 1, 30, 1), (1, 1, 11, 2), (224, 224, 128, 128), (33, 2, 13, 7), (500, 3, 14, 1)]
for is_before in (False, True):
    module._axis.cache_clear()
    for width, height, wide, high in [*sizes, (61, 40, 90, 41), (1, 5, 11, 9), (2, 3, 13, 7)]:
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        assert np.array_equal(module.bicubic(pixels, (wide, high)), module.by_pillow(pixels, (wide, high)))
print("whole")
"""


@compiled
def test_it_touches_nothing_outside_its_buffers(way: str) -> None:
    command = [sys.executable, "-c", _FENCED, str(_WAYS[way])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr[-2000:]


@compiled
@pytest.mark.usefixtures("_library")
def test_the_fastest_way_of_this_processor_is_taken() -> None:
    _skip_unless_the_processor_has("vnni")
    assert module._fastest() == module._Resizer(module._library(), module._VNNI)


@compiled
@pytest.mark.parametrize(
    ("what", "becomes"),
    [("__has_include(<avx512vnniintrin.h>)", "0"), ("setr_epi8(0, 3, 6, 9, 1,", "setr_epi8(0, 3, 9, 6, 1,")],
    ids=["a compiler that does not know it", "a compiler that gets it wrong"],
)
def test_without_vnni_the_older_way_is_taken(tmp_path: Path, what: str, becomes: str) -> None:
    source = _copied(tmp_path) / "bicubic.c"
    changed = source.read_text().replace(what, becomes)
    assert changed != source.read_text()
    source.write_text(changed)
    tries = "import export.contract.bicubic as b; print(b._fastest().way)"
    for command in (["-m", "export.contract.compile_bicubic"], ["-c", tries]):
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"{module._AVX2}\n"


def test_without_the_library_pillow_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = _hard(np.random.default_rng(0), 65, 40)
    found = bicubic(pixels, (30, 31))
    monkeypatch.setattr(module, "_fastest", lambda: None)
    assert np.array_equal(bicubic(pixels, (30, 31)), found)


@pytest.mark.parametrize(
    ("compiler", "says"),
    [("", "no C compiler"), ("false", "false failed"), ("no-such-compiler -O", "no-such-compiler -O failed")],
)
def test_who_cannot_compile_is_told_and_goes_on(tmp_path: Path, compiler: str, says: str) -> None:
    copy = _copied(tmp_path)
    environment = {"PATH": "/nowhere" if not compiler else os.environ["PATH"], "CC": compiler, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "export.contract.compile_bicubic"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout
    assert not [*copy.glob("*.so"), *copy.glob(".bicubic-*")]


def _copied(tmp_path: Path) -> Path:
    copy = tmp_path / "export" / "contract"
    copy.mkdir(parents=True)
    (tmp_path / "export/__init__.py").touch()
    for name in ("__init__.py", "bicubic.py", "bicubic.c", "compile_bicubic.py"):
        shutil.copy(ROOT / "export/contract" / name, copy)
    return copy
