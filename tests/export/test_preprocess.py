"""The one resize that trainer and control plane share."""

import numpy as np
import pytest
from PIL import Image

from export.contract.facts import Camera, ResizeRule
from export.contract.preprocess import resize


def _camera(resize_rule: ResizeRule, width: int = 8, height: int = 8) -> Camera:
    fill = (1, 2, 3) if resize_rule is ResizeRule.LETTERBOX else None
    return Camera(name="front", is_required=True, width=width, height=height, resize=resize_rule, fill=fill, tensor="image")


def _noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("rule", list(ResizeRule))
def test_an_image_of_the_right_size_passes_through_unchanged(rule: ResizeRule) -> None:
    image = _noise(8, 8)
    assert np.array_equal(resize(image, _camera(rule)), np.asarray(image))


def test_naive_is_exactly_pil_bicubic_and_ignores_the_aspect_ratio() -> None:
    image = _noise(20, 10)
    expected = np.asarray(image.resize((8, 6), Image.Resampling.BICUBIC))
    found = resize(image, _camera(ResizeRule.NAIVE, width=8, height=6))
    assert found.shape == (6, 8, 3)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


def test_letterbox_keeps_the_aspect_ratio_and_pads_with_its_colour() -> None:
    white = Image.new("RGB", (80, 40), "white")
    found = resize(white, _camera(ResizeRule.LETTERBOX, width=32, height=32))
    assert (found[10:22] == 255).all()
    assert (found[:6] == (1, 2, 3)).all()
    assert (found[26:] == (1, 2, 3)).all()


def test_letterbox_of_a_sliver_is_bounded_in_memory() -> None:
    found = resize(Image.new("RGB", (1_000_000, 1), "white"), _camera(ResizeRule.LETTERBOX))
    assert found.shape == (8, 8, 3)
    assert (found[0] == (1, 2, 3)).all()


def test_anything_but_rgb_is_refused() -> None:
    with pytest.raises(ValueError, match="not CMYK"):
        resize(Image.new("CMYK", (8, 8)), _camera(ResizeRule.NAIVE))
