"""A camera image of any size becomes the policy's uint8 HWC RGB tensor: one function for trainer, exporter and control plane.

Exact PIL bicubic, so a picture gives the same bytes wherever it is resized. It knows no file formats and no rotation tags:
the caller decodes, uprights and converts to RGB first. Normalisation happens inside the graph.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.contract.manifest import Camera, ResizeRule


def resize(image: Image.Image, camera: Camera) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 as `camera` wants it. An image of that size already passes through unchanged."""
    if image.mode != "RGB":
        raise ValueError(f"resize takes an RGB image, not {image.mode}")
    size = (camera.width, camera.height)
    if image.size == size:
        return np.asarray(image, dtype=np.uint8)
    match camera.resize:
        case ResizeRule.NAIVE:
            return np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=np.uint8)
        case ResizeRule.LETTERBOX:
            return np.asarray(_letterbox(image, size), dtype=np.uint8)


def _letterbox(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Keeps the aspect ratio: scales until one side fits, centres, fills the rest with black."""
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    canvas = Image.new("RGB", size)
    canvas.paste(image.resize(inner, Image.Resampling.BICUBIC), ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return canvas
