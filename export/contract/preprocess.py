"""A camera image of any size becomes the policy's uint8 HWC tensor: one function for trainer, exporter and control plane.

Exact PIL bicubic, and TensorFlow's crop and Lanczos rules, so a picture gives the same bytes wherever it is prepared. It knows no
file formats and no rotation tags: the caller decodes, uprights and converts to RGB first. Normalisation happens inside the graph.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.contract.bicubic import bicubic
from export.contract.crop import crop_and_resize
from export.contract.facts import Camera, Channels, ResizeRule

MAX_LETTERBOX_SIDE = 4096  # pixels


def resize(image: Image.Image, camera: Camera) -> NDArray[np.uint8]:
    """(height, width, 3) uint8: turned, resized, cropped and ordered as `camera` says, in that order."""
    if image.mode != "RGB":
        raise ValueError(f"resize takes an RGB image, not {image.mode}")
    return prepared(np.asarray(image), camera)


def prepared(pixels: NDArray[np.uint8], camera: Camera) -> NDArray[np.uint8]:
    """The same of (height, width, 3) RGB pixels; those that are as the camera wants them are not copied."""
    resized = _resized(pixels[::-1, ::-1] if camera.rotate_180 else pixels, camera)
    if camera.crop_area is not None:
        resized = crop_and_resize(resized, camera.crop_area)
    return resized if camera.channels is Channels.RGB else np.ascontiguousarray(resized[:, :, ::-1])


def _resized(pixels: NDArray[np.uint8], camera: Camera) -> NDArray[np.uint8]:
    size = (camera.width, camera.height)
    if pixels.shape == (camera.height, camera.width, 3):
        return pixels
    match camera.resize:
        case ResizeRule.NAIVE:
            return bicubic(pixels, size)
        case ResizeRule.LANCZOS3:
            return _lanczos3(pixels, size)
        case ResizeRule.LETTERBOX:
            return _letterbox(pixels, camera.width, camera.fill or (0, 0, 0))


def _lanczos3(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """As `tf.image.resize(…, "lanczos3", antialias=True)`, rounded: at most 1 off, in under 1 of 1000 bytes.

    Each colour in floating point, because PIL rounds and clips byte pictures between its two passes; then up to 25 are off.
    """
    colours = Image.fromarray(pixels).split()
    planes = [np.asarray(colour.convert("F").resize(size, Image.Resampling.LANCZOS)) for colour in colours]
    whole: NDArray[np.uint8] = np.clip(np.rint(np.stack(planes, axis=-1)), 0, 255).astype(np.uint8)
    return whole


def _letterbox(pixels: NDArray[np.uint8], side: int, fill: tuple[int, int, int]) -> NDArray[np.uint8]:
    """As Prismatic's processor: an equal border on both sides, the shorter side resized to `side`, the centre cut out.

    The border is rounded down, so an odd rest leaves the picture one pixel off square; that is why the crop is needed.
    A side over MAX_LETTERBOX_SIDE is brought down to it first, so that a sliver costs no more memory than a photograph.
    """
    small = _bounded(pixels)
    height, width, _ = small.shape
    longest = max(height, width)
    left, top = (longest - width) // 2, (longest - height) // 2
    padded = np.full((height + 2 * top, width + 2 * left, 3), fill, np.uint8)
    padded[top : top + height, left : left + width] = small
    shortest = min(padded.shape[:2])
    tall, wide = (side if length == shortest else int(side * length / shortest) for length in padded.shape[:2])
    x, y = round((wide - side) / 2), round((tall - side) / 2)
    return np.ascontiguousarray(bicubic(padded, (wide, tall))[y : y + side, x : x + side])


def _bounded(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width, _ = pixels.shape
    scale = MAX_LETTERBOX_SIDE / max(height, width)
    return pixels if scale >= 1 else bicubic(pixels, (max(1, round(width * scale)), max(1, round(height * scale))))
