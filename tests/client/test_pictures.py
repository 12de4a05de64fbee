"""What goes out is what the camera saw, or a complaint that says what is wrong with it."""

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from export.contract.facts import Camera as Manifest
from export.contract.facts import ResizeRule
from export.contract.preprocess import resize
from vlaapi_client.errors import InvalidRequest
from vlaapi_client.pictures import Encoding, encoded
from vlaapi_client.results import Camera

PNG, JPEG = Encoding(None), Encoding(90)


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def camera(rule: str) -> Camera:
    return Camera(name="front", is_required=True, width=128, height=128, resize=rule)


def test_an_array_goes_out_as_jpeg_in_full_colour_and_as_png_to_the_bit() -> None:
    frame = np.full((48, 64, 3), (200, 30, 30), np.uint8)
    jpeg = opened(encoded(frame, JPEG, param="image"))
    assert (jpeg.format, jpeg.size) == ("JPEG", (64, 48))
    assert jpeg.layer == [("\x01", 1, 1, 0), ("\x02", 1, 1, 1), ("\x03", 1, 1, 1)] or jpeg.layers == 3  # type: ignore[attr-defined]  # Pillow's own
    assert np.abs(np.asarray(jpeg).astype(int) - frame).max() <= 3
    assert (np.asarray(opened(encoded(noise(33, 45), PNG, param="image"))) == noise(33, 45)).all()


def test_a_view_that_is_not_contiguous_is_taken() -> None:
    bgr = noise(20, 20)
    assert (np.asarray(opened(encoded(bgr[:, :, ::-1], PNG, param="image"))) == bgr[:, :, ::-1]).all()


def test_bytes_go_out_as_they_are() -> None:
    assert encoded(bytearray(b"abc"), JPEG, param="image") == b"abc"
    assert encoded(memoryview(b"abc"), JPEG, param="image", camera=camera("resize_naive")) == b"abc"


def test_a_picture_lying_on_its_side_is_put_upright() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(20, 40)).save(file, "JPEG", exif=exif)
    assert opened(encoded(opened(file.getvalue()), JPEG, param="image")).size == (20, 40)


def test_transparency_is_left_to_the_service() -> None:
    assert opened(encoded(Image.new("RGBA", (20, 20)), JPEG, param="image")).format == "PNG"
    assert opened(encoded(Image.new("L", (20, 20)), JPEG, param="image")).format == "JPEG"


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((3, 32, 32), np.uint8),
        np.zeros((32, 32, 3), np.float32),
        np.zeros((32, 32), np.uint8),
        np.zeros((0, 32, 3), np.uint8),
        np.zeros((32, 32, 4), np.uint8),
        b"",
        "front.jpg",
        None,
        [1, 2],
    ],
)
def test_what_is_no_picture_is_named(wrong: Any) -> None:
    with pytest.raises(InvalidRequest) as error:
        encoded(wrong, JPEG, param="images.wrist")
    assert (error.value.code, error.value.param) == ("invalid_image", "images.wrist")


@pytest.mark.parametrize("quality", [0, 101, -1])
def test_a_quality_is_one(quality: int) -> None:
    with pytest.raises(ValueError, match="jpeg_quality"):
        Encoding(quality)


@pytest.mark.parametrize("shape", [(480, 640), (131, 997), (128, 129)])
def test_a_smaller_picture_is_the_one_that_the_service_would_have_made(shape: tuple[int, int]) -> None:
    frame = noise(*shape)
    sent = opened(encoded(frame, PNG, param="image", camera=camera("resize_naive")))
    assert sent.size == (128, 128)
    for turned in (False, True):
        manifest = Manifest(
            name="front", tensor="image", is_required=True, width=128, height=128, resize=ResizeRule.NAIVE, rotate_180=turned
        )
        assert (resize(sent, manifest) == resize(Image.fromarray(frame), manifest)).all()


@pytest.mark.parametrize(
    ("rule", "shape"),
    [("lanczos3", (480, 640)), ("letterbox", (480, 640)), ("tomorrow", (480, 640)), ("resize_naive", (100, 640))],
)
def test_where_the_service_would_do_something_else_the_picture_stays_as_large_as_it_is(rule: str, shape: tuple[int, int]) -> None:
    sent = opened(encoded(noise(*shape), PNG, param="image", camera=camera(rule)))
    assert sent.size == (shape[1], shape[0])
