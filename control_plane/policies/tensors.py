"""Between a policy's manifest and Triton's tensors: what the graph is given, and what it must give back.

Every tensor carries a batch dimension of one. Knows no request: the pipeline and the canary of `readiness.py` both build with it.
"""

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from control_plane.policies.catalogue import ServedPolicy
from control_plane.triton import Tensor, TritonCall
from export.contract.facts import Camera, Instruction, State
from export.contract.manifest import Manifest
from safety.context import TokenEvidence

_LOWEST_PRIORITY = 2
_FLOAT32, _UINT8 = "FP32", "UINT8"
_DTYPES: Mapping[str, str] = MappingProxyType({_FLOAT32: "float32", _UINT8: "uint8"})


class WrongAnswer(Exception):  # noqa: N818 -- reads as what happened
    """The graph answered something else than its manifest promises; the text says what, for the log only."""


def picture_tensors(camera: Camera, pixels: NDArray[np.uint8] | None) -> tuple[Tensor, ...]:
    """(height, width, 3) uint8 and, where the camera is optional, the mask that tells the graph whether it was sent."""
    shape = (camera.height, camera.width, 3)
    sent = np.zeros(shape, np.uint8) if pixels is None else pixels
    picture = Tensor(name=camera.tensor, datatype=_UINT8, shape=(1, *shape), data=np.ascontiguousarray(sent).data.cast("B"))
    return picture, *_mask(camera.mask_tensor, is_sent=pixels is not None)


def instruction_tensors(spec: Instruction | None, ids: NDArray[np.int64] | None) -> tuple[Tensor, ...]:
    """(max_tokens,) token ids, or nothing where the policy takes no words."""
    if spec is None or ids is None:
        return ()
    return (Tensor(name=spec.tensor, datatype="INT64", shape=(1, spec.max_tokens), data=ids.tobytes()),)


def state_tensors(spec: State | None, values: NDArray[np.float32] | None) -> tuple[Tensor, ...]:
    """The state and, where it is optional, the mask that tells the graph whether the numbers mean anything."""
    if spec is None:
        return ()
    sent = np.zeros(len(spec.names), np.float32) if values is None else values
    state = Tensor(name=spec.tensor, datatype=_FLOAT32, shape=(1, len(spec.names)), data=sent.tobytes())
    return state, *_mask(spec.mask_tensor, is_sent=values is not None)


def chosen_tensors(manifest: Manifest, *, unnorm_key: str | None, seed: int | None = None) -> tuple[Tensor, ...]:
    """The un-normalisation index and the noise, where the policy takes them; `unnorm_key` has passed the contract.

    Without a `seed` the noise is new each time.
    """
    return tuple(_chosen(manifest, unnorm_key, seed))


def _chosen(manifest: Manifest, unnorm_key: str | None, seed: int | None) -> Iterator[Tensor]:
    action, noise = manifest.action, manifest.noise
    if action.unnorm_tensor is not None:
        index = np.int64(0 if unnorm_key is None else action.unnorm_keys.index(unnorm_key))
        yield Tensor(name=action.unnorm_tensor, datatype="INT64", shape=(1, 1), data=index.tobytes())
    if noise is not None:
        values = np.random.default_rng(seed).standard_normal(noise.shape, np.float32)
        yield Tensor(name=noise.tensor, datatype=_FLOAT32, shape=(1, *noise.shape), data=values.tobytes())


def _mask(name: str | None, *, is_sent: bool) -> tuple[Tensor, ...]:
    if name is None:
        return ()
    return (Tensor(name=name, datatype=_FLOAT32, shape=(1, 1), data=np.float32(is_sent).tobytes()),)


def canary_inputs(manifest: Manifest) -> tuple[Tensor, ...]:
    """Black pictures, a prompt of one token, no state: enough to prove that the graph runs."""
    spec = manifest.instruction
    black = [tensor for camera in manifest.cameras for tensor in picture_tensors(camera, None)]
    prompt = None if spec is None else np.full(spec.max_tokens, spec.pad_id, np.int64)
    if spec is not None and prompt is not None:
        prompt[0] = 0 if spec.pad_id else 1  # ids that every vocabulary has
    chosen = chosen_tensors(manifest, unnorm_key=None, seed=0)
    return (*black, *instruction_tensors(spec, prompt), *state_tensors(manifest.state, None), *chosen)


def canary_call(policy: ServedPolicy, *, timeout_s: float) -> TritonCall:
    """The canary as a call that gives way to every customer's."""
    return TritonCall(
        model=policy.model,
        version=policy.version,
        request_id="canary",
        inputs=canary_inputs(policy.manifest),
        outputs=outputs_wanted(policy.manifest),
        timeout_s=timeout_s,
        priority=_LOWEST_PRIORITY,
    )


def outputs_wanted(manifest: Manifest) -> tuple[str, ...]:
    """The outputs that `action_of` and `entropy_of` read; Triton computes and sends no other."""
    tokens = manifest.tokens
    if tokens is None:
        return (manifest.action.tensor,)
    spoken = manifest.action.tensor, tokens.is_action_tensor
    return spoken if tokens.vocabulary is None else (*spoken, tokens.entropy_tensor)


def action_of(manifest: Manifest, outputs: Mapping[str, Tensor]) -> NDArray[np.float32]:
    """(horizon, dimensions) float32, NaN where the policy spoke a token that is no action, for the guard to refuse.

    Raises WrongAnswer: an embedded Triton with numpy 2 answers success with nothing inside.
    """
    shape = (manifest.action.horizon, len(manifest.action.names))
    found = _array(outputs, manifest.action.tensor, _FLOAT32, shape)
    if manifest.tokens is None:
        return found
    is_action = _spoken(manifest, outputs, manifest.tokens.is_action_tensor, _UINT8).astype(bool)
    if is_action.all():
        return found
    # Where there is a token per number, only those numbers are unknown; else nobody can say which are.
    return np.where(is_action.reshape(shape) if is_action.size == found.size else False, found, np.float32("nan"))


def entropy_of(manifest: Manifest, outputs: Mapping[str, Tensor]) -> TokenEvidence | None:
    """How unsure the policy was of each token; None for one that has no tokens or does not say over how many ids.

    Raises WrongAnswer. What is no entropy (NaN) is the guard's to pass over: it only informs.
    """
    tokens = manifest.tokens
    if tokens is None or tokens.vocabulary is None:
        return None
    entropies = _spoken(manifest, outputs, tokens.entropy_tensor, _FLOAT32)
    return TokenEvidence(entropy_nats=entropies.astype(np.float64), bin_count=tokens.vocabulary)


def _spoken(manifest: Manifest, outputs: Mapping[str, Tensor], name: str, datatype: str) -> NDArray[Any]:
    """One number per token."""
    shape = next(output.shape for output in manifest.outputs if output.tensor == name)
    return _array(outputs, name, datatype, shape)


def _array(outputs: Mapping[str, Tensor], name: str, datatype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    answer = outputs.get(name)
    if answer is None:
        raise WrongAnswer(f"no output {name!r}")
    if answer.datatype != datatype or answer.shape not in {(1, *shape), shape}:
        raise WrongAnswer(f"{name} is {answer.datatype} {answer.shape}, the manifest says {datatype} {shape}")
    dtype = np.dtype(_DTYPES[datatype])
    wanted = dtype.itemsize * math.prod(shape)
    if len(answer.data) != wanted:
        raise WrongAnswer(f"{name} holds {len(answer.data)} bytes, {shape} {dtype} need {wanted}")
    return np.frombuffer(answer.data, dtype).reshape(shape)
