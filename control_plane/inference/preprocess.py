"""Step 6: pictures are decoded and resized exactly as the manifest says, words become token ids, in worker threads.

The rules themselves live in `export.contract`, shared with the trainer and the exporter. Pillow lets go of the interpreter
while it decodes and resizes, so the event loop keeps turning. Only what is surely done in under a millisecond stays on the
loop: there the hand-over to a thread and back costs more than the work (decision 7). Pixels that came without a file give the
same tensor as a lossless file of them. Called with an observation that has passed the contract.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from control_plane.errors import ApiError
from control_plane.inference import images
from control_plane.inference.observation import Observation, Prepared
from control_plane.policies.tensors import chosen_tensors, instruction_tensors, picture_tensors, state_tensors
from export.contract.preprocess import prepared
from export.contract.tokenize import InstructionTooLong

QUICK_PIXELS = 256 * 256


class Preprocessor:
    """A small pool of threads. Make it once per process; `close` when the process ends."""

    def __init__(self, *, threads: int, max_pixels: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._max_pixels = max_pixels

    async def prepare(self, observation: Observation) -> Prepared:
        """The tensors of this observation. Raises invalid_image or invalid_instruction naming the field."""
        if is_quick(observation):
            # The bound again: a file with a second, bigger frame behind the first is refused, not decoded here.
            return prepare(observation, min(QUICK_PIXELS, self._max_pixels))
        return await asyncio.get_running_loop().run_in_executor(self._pool, prepare, observation, self._max_pixels)

    def close(self) -> None:
        """Lets go of the threads; what has begun is finished."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def is_quick(observation: Observation) -> bool:
    """Whether the pictures are pixels or plain JPEGs of at most `QUICK_PIXELS`, before and after, as their headers say."""
    found = [images.quick_pixels(picture.data) for picture in observation.pictures]
    wanted = sum(picture.camera.width * picture.camera.height for picture in observation.pictures)
    return all(found) and max(sum(found), wanted) <= QUICK_PIXELS


def prepare(observation: Observation, max_pixels: int) -> Prepared:
    """The same in the calling thread."""
    began = perf_counter()
    decoded = [images.read(picture.data, param=picture.param, max_pixels=max_pixels) for picture in observation.pictures]
    split = perf_counter()
    manifest = observation.policy.manifest
    pairs = zip(observation.pictures, decoded, strict=True)
    pixels = {picture.camera.name: prepared(image, picture.camera) for picture, image in pairs}
    inputs = (
        *(tensor for camera in manifest.cameras for tensor in picture_tensors(camera, pixels.get(camera.name))),
        *instruction_tensors(manifest.instruction, _ids(observation)),
        *state_tensors(manifest.state, observation.state),
        *chosen_tensors(manifest, unnorm_key=observation.unnorm_key),
    )
    return Prepared(inputs=inputs, decode_ms=(split - began) * 1e3, preprocess_ms=(perf_counter() - split) * 1e3)


def _ids(observation: Observation) -> NDArray[np.int64] | None:
    tokenizer = observation.policy.tokenizer
    try:
        return None if tokenizer is None else tokenizer.ids(observation.instruction)
    except InstructionTooLong as fault:
        message = f"The instruction has {fault.length} {fault.unit}, this model takes {fault.limit}."
        raise ApiError("invalid_instruction", message, param="instruction") from None
