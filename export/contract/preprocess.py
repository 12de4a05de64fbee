"""A camera image of any size becomes the policy's uint8 HWC tensor: one function for trainer, exporter and control plane.

Exact PIL bicubic, and TensorFlow's crop and Lanczos rules, so a picture gives the same bytes wherever it is prepared. It knows no
file formats and no rotation tags: the caller decodes, uprights and converts to RGB first. Normalisation happens inside the graph.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.contract.crop import crop_and_resize
from export.contract.facts import Camera, Channels, ResizeRule

MAX_LETTERBOX_SIDE = 4096  # pixels


def resize(image: Image.Image, camera: Camera) -> NDArray[np.uint8]:
    """(height, width, 3) uint8: turned, resized, cropped and ordered as `camera` says, in that order."""
    if image.mode != "RGB":
        raise ValueError(f"resize takes an RGB image, not {image.mode}")
    upright = image.transpose(Image.Transpose.ROTATE_180) if camera.rotate_180 else image
    return _finished(np.asarray(_resized(upright, camera), dtype=np.uint8), camera)


def prepared(picture: Image.Image | NDArray[np.uint8], camera: Camera) -> NDArray[np.uint8]:
    """As `resize`, also for (height, width, 3) RGB pixels that no file held; those of the camera's own size are not copied."""
    if isinstance(picture, Image.Image):
        return resize(picture, camera)
    if picture.shape == (camera.height, camera.width, 3) and not camera.rotate_180:
        return _finished(picture, camera)
    return resize(Image.fromarray(picture), camera)


def _finished(pixels: NDArray[np.uint8], camera: Camera) -> NDArray[np.uint8]:
    if camera.crop_area is not None:
        pixels = crop_and_resize(pixels, camera.crop_area)
    return pixels if camera.channels is Channels.RGB else np.ascontiguousarray(pixels[:, :, ::-1])


def _resized(image: Image.Image, camera: Camera) -> Image.Image:
    size = (camera.width, camera.height)
    if image.size == size:
        return image
    match camera.resize:
        case ResizeRule.NAIVE:
            return image.resize(size, Image.Resampling.BICUBIC)
        case ResizeRule.LANCZOS3:
            return _lanczos3(image, size)
        case ResizeRule.LETTERBOX:
            return _letterbox(image, camera.width, camera.fill or (0, 0, 0))


def _lanczos3(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """As `tf.image.resize(…, "lanczos3", antialias=True)`, rounded: at most 1 off, in under 1 of 1000 bytes.

    Each colour in floating point, because PIL rounds and clips byte pictures between its two passes; then up to 25 are off.
    """
    planes = [np.asarray(plane.convert("F").resize(size, Image.Resampling.LANCZOS)) for plane in image.split()]
    return Image.fromarray(np.clip(np.rint(np.stack(planes, axis=-1)), 0, 255).astype(np.uint8))


def _letterbox(image: Image.Image, side: int, fill: tuple[int, int, int]) -> Image.Image:
    """As Prismatic's processor: an equal border on both sides, the shorter side resized to `side`, the centre cut out.

    The border is rounded down, so an odd rest leaves the picture one pixel off square; that is why the crop is needed.
    A side over MAX_LETTERBOX_SIDE is brought down to it first, so that a sliver costs no more memory than a photograph.
    """
    small = _bounded(image)
    longest = max(small.size)
    left, top = (longest - small.width) // 2, (longest - small.height) // 2
    padded = Image.new("RGB", (small.width + 2 * left, small.height + 2 * top), fill)
    padded.paste(small, (left, top))
    shortest = min(padded.size)
    width, height = (side if length == shortest else int(side * length / shortest) for length in padded.size)
    scaled = padded.resize((width, height), Image.Resampling.BICUBIC)
    x, y = round((width - side) / 2), round((height - side) / 2)
    return scaled.crop((x, y, x + side, y + side))


def _bounded(image: Image.Image) -> Image.Image:
    scale = MAX_LETTERBOX_SIDE / max(image.size)
    if scale >= 1:
        return image
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BICUBIC)
