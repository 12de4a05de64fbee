"""The centre crop against TensorFlow's kernel written out pixel by pixel, and against what TensorFlow itself answered."""

import hashlib
import math

import numpy as np
import pytest

from export.contract.crop import crop_and_resize

F = np.float32


def _literal(pixels: np.ndarray, area: float) -> np.ndarray:
    """One scalar at a time, in the order of the C++ kernel, every intermediate a 32-bit float."""
    height, width, depth = pixels.shape
    side = F(math.sqrt(float(F(area))))  # correctly rounded: a double's square root of a float
    y1 = x1 = F(F(1) - side) / F(2)
    y2 = x2 = F(y1 + side)
    answer = np.zeros_like(pixels)
    for y in range(height):
        in_y = F(y1 * F(height - 1)) + F(F(y) * F(F(F(y2 - y1) * F(height - 1)) / F(height - 1)))
        for x in range(width):
            in_x = F(x1 * F(width - 1)) + F(F(x) * F(F(F(x2 - x1) * F(width - 1)) / F(width - 1)))
            for channel in range(depth):
                answer[y, x, channel] = _pixel(pixels[:, :, channel], float(in_y), float(in_x))
    return answer


def _pixel(plane: np.ndarray, in_y: float, in_x: float) -> int:
    top, bottom, left, right = math.floor(in_y), math.ceil(in_y), math.floor(in_x), math.ceil(in_x)
    down, across = F(F(in_y) - F(top)), F(F(in_x) - F(left))

    def at(y: int, x: int) -> np.float32:
        return F(F(plane[y, x]) * F(1.0 / 255))

    upper = F(at(top, left) + F(F(at(top, right) - at(top, left)) * across))
    lower = F(at(bottom, left) + F(F(at(bottom, right) - at(bottom, left)) * across))
    value = F(upper + F(F(lower - upper) * down))
    return int(F(min(max(value, F(0)), F(1)) * F(255.5)))


def _noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(24, 24), (17, 31), (2, 5)])
@pytest.mark.parametrize("area", [0.9, 0.5, 0.04, 1.0])
def test_it_is_the_kernel_pixel_by_pixel(shape: tuple[int, int], area: float) -> None:
    assert np.array_equal(crop_and_resize(_noise(*shape), area), _literal(_noise(*shape), area))


def test_the_whole_area_changes_nothing() -> None:
    every_value = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    assert np.array_equal(crop_and_resize(every_value, 1.0), every_value)


@pytest.mark.parametrize("area", [0.9, 0.99999994, 1e-6])
def test_one_colour_stays_that_colour_and_no_border_appears(area: float) -> None:
    for value in (0, 1, 127, 254, 255):
        grey = np.full((224, 224, 3), value, np.uint8)
        assert (crop_and_resize(grey, area) == value).all()


def test_a_single_pixel_stays_itself() -> None:
    assert crop_and_resize(np.full((1, 1, 3), 9, np.uint8), 0.9).tolist() == [[[9, 9, 9]]]


def test_the_middle_is_kept() -> None:
    pixels = np.zeros((100, 100, 1), np.uint8)
    pixels[40:60, 40:60] = 255
    found = crop_and_resize(pixels, 0.25)
    assert found[50, 50, 0] == 255
    assert int((found > 127).sum()) == pytest.approx(4 * 400, rel=0.06)


def test_it_gives_the_bytes_that_tensorflow_gives() -> None:
    """TensorFlow 2.21 answered with this hash; it agreed in all of 10.7 million bytes over 48 sizes and areas."""
    found = crop_and_resize(_noise(224, 224), 0.9)
    assert hashlib.sha256(found.tobytes()).hexdigest() == "089a93c66d60aae36c9e5ca14ba00119cbceb195147051ac151de2ed0a503c5d"
