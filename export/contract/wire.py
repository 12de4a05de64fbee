"""The tensors of a request in one fixed order, as the manifest implies them: what the graph, Triton and the caller must agree on.

Shapes and types only; values are made by `preprocess`, `tokenize` and the caller.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from export.contract.facts import Dtype
from export.contract.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class WireTensor:
    """A tensor on the wire; `shape` is without the batch dimension."""

    name: str
    dtype: Dtype
    shape: tuple[int, ...]


def inputs_of(manifest: Manifest) -> tuple[WireTensor, ...]:
    """Cameras, words, state, un-normalisation index, noise; a mask follows what it belongs to."""
    return tuple(_inputs(manifest))


def outputs_of(manifest: Manifest) -> tuple[WireTensor, ...]:
    """What comes back, in the manifest's order."""
    return tuple(WireTensor(name=output.tensor, dtype=output.dtype, shape=output.shape) for output in manifest.outputs)


def _inputs(manifest: Manifest) -> Iterator[WireTensor]:
    words, state, noise = manifest.instruction, manifest.state, manifest.noise
    for camera in manifest.cameras:
        yield WireTensor(name=camera.tensor, dtype="uint8", shape=(camera.height, camera.width, 3))
        yield from _mask(camera.mask_tensor)
    if words is not None:
        yield WireTensor(name=words.tensor, dtype="int64", shape=(words.max_tokens,))
    if state is not None:
        yield WireTensor(name=state.tensor, dtype="float32", shape=(len(state.names),))
        yield from _mask(state.mask_tensor)
    if manifest.action.unnorm_tensor is not None:
        yield WireTensor(name=manifest.action.unnorm_tensor, dtype="int64", shape=(1,))
    if noise is not None:
        yield WireTensor(name=noise.tensor, dtype="float32", shape=noise.shape)


def _mask(name: str | None) -> Iterator[WireTensor]:
    if name is not None:
        yield WireTensor(name=name, dtype="float32", shape=(1,))
