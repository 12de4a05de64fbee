"""The one resize that trainer and control plane share."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from export.contract.crop import crop_and_resize
from export.contract.facts import Camera, Channels, ResizeRule
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


@pytest.mark.parametrize("name", ["wide", "small"])
def test_lanczos3_is_tensorflows_to_the_last_rounding(name: str) -> None:
    images = Path(__file__).parents[1] / "fixtures" / "openvla_oft_tiny" / "images"
    expected = np.asarray(Image.open(images / f"lanczos_{name}_40x32_by_tensorflow.png"), dtype=np.int64)
    picture = Image.open(images / f"lanczos_{name}.png")
    difference = np.abs(resize(picture, _camera(ResizeRule.LANCZOS3, width=40, height=32)) - expected)
    assert difference.max() <= 1
    assert difference.sum() <= 4  # of 3840 bytes
    in_bytes = np.abs(np.asarray(picture.resize((40, 32), Image.Resampling.LANCZOS), dtype=np.int64) - expected)
    assert in_bytes.sum() > 400  # what PIL's own byte arithmetic would lose


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


def _prismatic(image: Image.Image, side: int) -> np.ndarray:
    """The original processor's steps, each by its rule: pad to a square, resize the shorter side, cut out the centre."""
    longest = max(image.size)
    border = (int((longest - image.width) / 2), int((longest - image.height) / 2))
    square = ImageOps.expand(image, border, fill=(1, 2, 3))
    if square.width <= square.height:
        size = (side, int(side * square.height / square.width))
    else:
        size = (int(side * square.width / square.height), side)
    scaled = np.asarray(square.resize(size, Image.Resampling.BICUBIC))
    top, left = round((scaled.shape[0] - side) / 2.0), round((scaled.shape[1] - side) / 2.0)
    return scaled[top : top + side, left : left + side]


@pytest.mark.parametrize("size", [(64, 48), (48, 65), (1, 1), (2, 1), (5, 7), (640, 479), (33, 32), (100, 3)])
def test_letterbox_is_the_original_processors(size: tuple[int, int]) -> None:
    found = resize(_noise(*size), _camera(ResizeRule.LETTERBOX, width=32, height=32))
    assert np.array_equal(found, _prismatic(_noise(*size), 32))


def test_letterbox_gives_the_bytes_of_the_original_code() -> None:
    """The hash is of what Prismatic's transform gave under torchvision 0.28; all of 48 sizes agreed."""
    pixels = np.random.default_rng(1).integers(0, 256, (480, 641, 3), dtype=np.uint8)
    camera = _camera(ResizeRule.LETTERBOX, width=224, height=224).model_copy(update={"fill": (123, 116, 103)})
    found = resize(Image.fromarray(pixels), camera)
    assert hashlib.sha256(found.tobytes()).hexdigest() == "b2ab2a12e8f9de76d8a0e9b1030fb220d718e57ddc1db05ee0de1acb35558611"


def test_it_turns_then_resizes_then_crops_then_orders_the_channels() -> None:
    image = _noise(64, 48)
    camera = _camera(ResizeRule.NAIVE, width=32, height=24)
    everything = camera.model_copy(update={"rotate_180": True, "crop_area": 0.9, "channels": Channels.BGR})
    turned = Image.fromarray(np.ascontiguousarray(np.asarray(image)[::-1, ::-1]))
    expected = crop_and_resize(np.asarray(turned.resize((32, 24), Image.Resampling.BICUBIC)), 0.9)[:, :, ::-1]
    found = resize(image, everything)
    assert np.array_equal(found, expected)
    assert found.flags.c_contiguous
    assert not np.array_equal(found, resize(image, camera))


@pytest.mark.parametrize("change", [{"rotate_180": True}, {"crop_area": 0.9}, {"channels": Channels.BGR}], ids=str)
def test_an_image_of_the_right_size_is_still_turned_cropped_and_ordered(change: dict[str, object]) -> None:
    camera = _camera(ResizeRule.NAIVE)
    assert not np.array_equal(resize(_noise(8, 8), camera.model_copy(update=change)), resize(_noise(8, 8), camera))
