"""Pictures become upright RGB or a refusal that names the field; nothing a hostile picture does gets further."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from control_plane.errors import ApiError
from control_plane.inference.images import decode
from tests.control_plane.fakes import picture

FORMS = ["JPEG", "PNG", "WEBP"]
MAX_PIXELS = 1_000_000


def refusal(encoded: bytes, *, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(ApiError) as caught:
        decode(encoded, param="images.wrist", max_pixels=max_pixels)
    assert caught.value.kind.code == "invalid_image"
    assert caught.value.param == "images.wrist"
    return caught.value.message


def decoded(encoded: bytes) -> Image.Image:
    image = decode(encoded, param="image", max_pixels=MAX_PIXELS)
    assert image.mode == "RGB"
    return image


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds almost nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", FORMS)
def test_the_three_formats_are_decoded(form: str) -> None:
    assert decoded(picture(form=form)).size == (64, 48)


@pytest.mark.parametrize(
    ("mode", "form"), [("L", "JPEG"), ("L", "PNG"), ("CMYK", "JPEG"), ("P", "PNG"), ("1", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP")]
)
def test_other_colour_modes_are_converted(mode: str, form: str) -> None:
    assert decoded(picture(mode=mode, form=form)).size == (64, 48)


def test_grey_is_the_same_in_all_three_channels() -> None:
    pixels = np.asarray(decoded(picture(mode="L", form="PNG")))
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_transparency_is_laid_on_black() -> None:
    image = Image.new("RGBA", (16, 16), (200, 100, 50, 0))
    image.putpixel((3, 3), (200, 100, 50, 255))
    pixels = np.asarray(decoded(encoded(image)))
    assert tuple(pixels[0, 0]) == (0, 0, 0)
    assert tuple(pixels[3, 3]) == (200, 100, 50)


def test_a_transparent_palette_colour_is_laid_on_black() -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([255, 255, 255, 9, 8, 7])
    image.putpixel((2, 2), 1)
    pixels = np.asarray(decoded(encoded(image, transparency=0)))
    assert tuple(pixels[0, 0]) == (0, 0, 0)
    assert tuple(pixels[2, 2]) == (9, 8, 7)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = Image.new("RGB", (48, 32), (0, 0, 0))
    upright.paste((255, 255, 255), (0, 0, 24, 16))  # the upper left quarter is white
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    held = upright if back is None else upright.transpose(back)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.asarray(decoded(encoded(held, "JPEG", exif=exif, quality=95)))
    assert pixels.shape == (32, 48, 3)
    assert pixels[4, 4].min() > 200
    assert pixels[28, 44].max() < 50


@pytest.mark.parametrize("form", FORMS)
def test_a_picture_cut_short_is_refused(form: str) -> None:
    whole = picture(form=form)
    assert "broken" in refusal(whole[: len(whole) // 2])


@pytest.mark.parametrize("size", [(1, 1), (15, 200), (200, 15)])
@pytest.mark.parametrize("form", FORMS)
def test_a_tiny_picture_is_refused(size: tuple[int, int], form: str) -> None:
    assert "at least 16" in refusal(picture(size=size, form=form))


@pytest.mark.parametrize("size", [(20_000, 20_000), (2**31 - 1, 2**31 - 1), (1_000_001, 16)])
def test_a_picture_that_claims_too_many_pixels_is_refused_from_its_header(size: tuple[int, int]) -> None:
    assert "more than 1000000" in refusal(png_header(*size))


@pytest.mark.parametrize("form", FORMS)
def test_a_picture_over_the_pixel_limit_is_refused(form: str) -> None:
    assert "more than 3071" in refusal(picture(form=form), max_pixels=64 * 48 - 1)


@pytest.mark.parametrize("is_lossless", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_size_of_a_webp_is_read_right_before_it_is_opened(mode: str, *, is_lossless: bool) -> None:
    webp = picture(size=(300, 200), form="WEBP", mode=mode, lossless=is_lossless)
    assert "300×200" in refusal(webp, max_pixels=1000)


def test_a_webp_that_claims_a_huge_canvas_is_refused_before_it_is_opened() -> None:
    header = b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\xff\x3f\x00" * 2
    assert "16384×16384" in refusal(header)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_an_animation_is_refused(form: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    assert "animated" in refusal(encoded(frames[0], form, save_all=True, append_images=frames[1:]))


@pytest.mark.parametrize("form", ["GIF", "TIFF", "BMP", "ICO", "PPM"])
def test_other_formats_are_refused(form: str) -> None:
    assert "neither JPEG, PNG nor WebP" in refusal(picture(form=form))


def test_sixteen_bits_per_channel_are_refused() -> None:
    depth_map = Image.fromarray(np.full((32, 32), 40_000, np.uint16))
    assert "16 bits" in refusal(encoded(depth_map))


def test_a_jpeg_with_many_scans_is_refused() -> None:
    progressive = picture(form="JPEG", progressive=True)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    assert "scans" in refusal(progressive[:-2] + scan * 100 + b"\xff\xd9")
    assert decoded(progressive).size == (64, 48)


def test_a_jpeg_with_a_second_picture_inside_gives_the_first() -> None:
    out = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(out, "MPO", save_all=True, append_images=[Image.new("RGB", (32, 32), "blue")])
    assert np.asarray(decoded(out.getvalue()))[16, 16, 0] > 200


@pytest.mark.parametrize(
    "junk", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"RIFF\0\0\0\0WEBP", b"GIF89a", b"hello" * 9]
)
def test_junk_is_refused(junk: bytes) -> None:
    refusal(junk)


def test_a_png_text_bomb_is_refused() -> None:
    bomb = zlib.compress(b"\0" * 50_000_000)
    data = b"k\0\0" + bomb
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    whole = picture(form="PNG")
    assert "broken" in refusal(whole[:33] + chunk + whole[33:])


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow mutters about broken EXIF and goes on without it
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_pictures_are_decoded_or_refused_and_nothing_else(data: st.DataObject) -> None:
    whole = bytearray(MUTATED[data.draw(st.integers(0, len(MUTATED) - 1))])
    for _ in range(data.draw(st.integers(1, 12))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ApiError):
        assert decode(bytes(whole), param="image", max_pixels=MAX_PIXELS).mode == "RGB"


def _with_exif(form: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a camera"
    return encoded(Image.new("RGB", (20, 30), "green"), form, exif=exif)


MUTATED = [
    *(picture(size=(20, 30), form=form) for form in FORMS),
    *(_with_exif(form) for form in FORMS),
    picture(size=(20, 30), form="JPEG", mode="CMYK"),
    picture(size=(20, 30), form="JPEG", progressive=True),
    picture(size=(20, 30), form="PNG", mode="P"),
    picture(size=(20, 30), form="WEBP", mode="RGBA", lossless=True),
]
