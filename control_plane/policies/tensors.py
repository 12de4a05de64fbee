"""Between a policy's manifest and Triton's tensors: what the graph is given, and what it must give back.

Every tensor carries a batch dimension of one. Knows no request: the pipeline and the canary of `readiness.py` both build with it.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from control_plane.triton import Tensor
from export.contract.manifest import Camera, Instruction, Manifest, State

_FLOAT32 = "FP32"


class WrongAnswer(Exception):  # noqa: N818 -- reads as what happened
    """The graph answered something else than its manifest promises; the text says what, for the log only."""


def picture_tensor(camera: Camera, pixels: NDArray[np.uint8]) -> Tensor:
    """(height, width, 3) uint8 RGB."""
    return Tensor(name=camera.tensor, datatype="UINT8", shape=(1, camera.height, camera.width, 3), data=pixels.tobytes())


def instruction_tensor(spec: Instruction, ids: NDArray[np.int64]) -> Tensor:
    """(max_tokens,) token ids."""
    return Tensor(name=spec.tensor, datatype="INT64", shape=(1, spec.max_tokens), data=ids.tobytes())


def state_tensors(spec: State | None, values: NDArray[np.float32] | None) -> tuple[Tensor, ...]:
    """The state and, where it is optional, the mask that tells the graph whether the numbers mean anything."""
    if spec is None:
        return ()
    sent = np.zeros(len(spec.names), np.float32) if values is None else values
    state = Tensor(name=spec.tensor, datatype=_FLOAT32, shape=(1, len(spec.names)), data=sent.tobytes())
    if spec.mask_tensor is None:
        return (state,)
    mask = np.float32(0.0 if values is None else 1.0)
    return state, Tensor(name=spec.mask_tensor, datatype=_FLOAT32, shape=(1, 1), data=mask.tobytes())


def canary_inputs(manifest: Manifest) -> tuple[Tensor, ...]:
    """Black pictures, padding for words, no state: enough to prove that the graph runs."""
    black = (picture_tensor(camera, np.zeros((camera.height, camera.width, 3), np.uint8)) for camera in manifest.cameras)
    padding = np.full(manifest.instruction.max_tokens, manifest.instruction.pad_id, np.int64)
    return (*black, instruction_tensor(manifest.instruction, padding), *state_tensors(manifest.state, None))


def action_of(manifest: Manifest, outputs: Mapping[str, Tensor]) -> NDArray[np.float32]:
    """(horizon, dimensions) float32. Raises WrongAnswer: an embedded Triton with numpy 2 answers success with nothing inside."""
    name, shape = manifest.action.tensor, (manifest.action.horizon, len(manifest.action.names))
    answer = outputs.get(name)
    if answer is None:
        raise WrongAnswer(f"no output {name!r}")
    if answer.datatype != _FLOAT32 or answer.shape not in {(1, *shape), shape}:
        raise WrongAnswer(f"{name} is {answer.datatype} {answer.shape}, the manifest says {_FLOAT32} {shape}")
    if len(answer.data) != 4 * shape[0] * shape[1]:
        raise WrongAnswer(f"{name} holds {len(answer.data)} bytes, {shape} float32 need {4 * shape[0] * shape[1]}")
    return np.frombuffer(answer.data, np.float32).reshape(shape)
