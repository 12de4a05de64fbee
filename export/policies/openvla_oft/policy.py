"""An OpenVLA-OFT checkpoint as `publish` wants it: facts, examples, the original's answers, the graph.

`open_checkpoint` reads and judges everything, small files first, so that a faulty checkpoint fails early and whole. It knows no
model repository and no Triton.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from export.contract.manifest import Manifest
from export.contract.statistics import Bounds
from export.contract.tokenize import InstructionTokenizer
from export.onnx import Graph
from export.policies.adapter import CheckpointError, CheckpointOptions
from export.policies.openvla import weights
from export.policies.openvla.config import OpenVlaConfig, read_config
from export.policies.openvla.network import meta_network
from export.policies.openvla.prompt import TOKENIZER_FILE
from export.policies.openvla_oft import parts
from export.policies.openvla_oft.facts import (
    ACTION_TENSOR,
    IDS_TENSOR,
    MODEL_FILE,
    RUNNER,
    STATE_TENSOR,
    UNNORM_TENSOR,
    Facts,
    read_prompt,
)
from export.policies.openvla_oft.heads import ActionHead, ProprioProjector
from export.policies.openvla_oft.network import Oft, Served, Table, Tables
from export.policies.openvla_oft.recipe import Recipe, Shapes, read_recipe
from export.policies.openvla_oft.statistics import Scaling, keys_of, read_scaling

SENTENCES = (
    "pick up red cube",
    "put the black bowl on the plate",
    "open the middle drawer of the cabinet",
    "turn on the stove and put the moka pot on it",
    "fold the shirt",
    "scoop the raisins into the bowl",
    "close the drawer",
    "put both the cream cheese box and the butter in the basket",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OftPolicy:
    """One opened checkpoint. The weights stay memory-mapped as stored until float32 is asked for."""

    facts: Facts
    stored: Served

    def network(self) -> Served:
        """The graph as a module, in float32."""
        return self.stored.to(torch.float32)

    def manifest(self, *, version: int, sha256: dict[str, str]) -> Manifest:
        """See `Policy`."""
        return self.facts.manifest(version=version, sha256=sha256)

    def examples(self) -> dict[str, Tensor]:
        """Pictures of coarse squares, sentences of different lengths, states inside and outside the bounds, every key."""
        facts, rows, random = self.facts, len(SENTENCES), np.random.default_rng(29)
        tokenizer = InstructionTokenizer(facts.options.checkpoint, facts.instruction)
        found = {
            camera.tensor: _squares(random.integers(0, 256, (rows, 8, 8, 3), dtype=np.uint8), camera.width)
            for camera in facts.cameras()
        }
        found[IDS_TENSOR] = torch.from_numpy(np.stack([tokenizer.ids(sentence) for sentence in SENTENCES]))
        index = np.arange(rows, dtype=np.int64) % len(facts.keys)
        bounds = [facts.scaling[facts.keys[one]].state for one in index]
        states = [_inside_and_out(one, random) for one in bounds if one is not None]
        if states:
            found[STATE_TENSOR] = torch.from_numpy(np.stack(states))
        found[UNNORM_TENSOR] = torch.from_numpy(index[:, None])
        return found

    def answers(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """The network without any padding, one row after the other: the original's own sequence."""
        network, rows = self.network(), []
        with torch.inference_mode():
            for row in range(len(inputs[IDS_TENSOR])):
                one = {name: value[[row]] for name, value in inputs.items()}
                length = int((one[IDS_TENSOR] != self.facts.config.pad_token_id).sum())
                rows.append(network(**one | {IDS_TENSOR: one[IDS_TENSOR][:, :length]}))
        return (torch.cat(rows),)

    def graphs(self) -> tuple[Graph, ...]:
        """One graph: there is no loop to unroll."""
        return (Graph(file=MODEL_FILE, module=self.network(), examples=self.examples(), outputs=(ACTION_TENSOR,)),)

    def runner(self) -> Path:
        """ONNX Runtime."""
        return RUNNER

    def files(self) -> dict[str, Path | bytes]:
        """The tokenizer."""
        return {TOKENIZER_FILE: self.facts.options.checkpoint / TOKENIZER_FILE}

    def evaluation_file(self) -> Path | None:
        """There is no closed-loop evaluation of this family here."""
        return None


def open_checkpoint(options: CheckpointOptions) -> OftPolicy:
    """Reads and judges the checkpoint. Raises CheckpointError with one line that says what to do."""
    folder = options.checkpoint
    config = read_config(folder)
    parts.refuse_unsupported(folder)
    head, projector = _heads(folder, config)
    facts = _facts(options, config, head, projector)
    network = meta_network(config)
    weights.load(network, folder)
    oft = Oft(network, head, projector, horizon=facts.recipe.chunk)
    return OftPolicy(facts=facts, stored=Served(oft, _tables(facts.scaling.values())).eval())


def _heads(folder: Path, config: OpenVlaConfig) -> tuple[ActionHead, ProprioProjector | None]:
    hidden, projector = config.text.hidden_size, parts.read_projector(folder)
    head = parts.head_of(parts.read_head(folder), hidden)
    return head, None if projector is None else parts.projector_of(projector, hidden)


def _facts(options: CheckpointOptions, config: OpenVlaConfig, head: ActionHead, projector: ProprioProjector | None) -> Facts:
    """Tried out on a manifest, so that whatever the facts contradict is found now."""
    folder = options.checkpoint
    shapes = Shapes(action=head.action_dim, proprio=None if projector is None else projector.fc1.in_features)
    keys = options.unnorm_keys or keys_of(folder)
    recipe = read_recipe(folder, shapes, keys, options.kind)
    if len(recipe.cameras) > 1 and not config.is_fused:
        raise CheckpointError(f"{folder}: reads {len(recipe.cameras)} pictures, which only two fused vision towers can")
    scaling = _scaling(folder, recipe, keys, shapes)
    facts = Facts(options=options, config=config, recipe=recipe, scaling=scaling, instruction=read_prompt(folder, config))
    try:
        facts.manifest(version=1, sha256={})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'manifest'}: {fault['msg']}" for fault in error.errors())
        raise CheckpointError(f"{folder}: {faults}") from None
    return facts


def _scaling(folder: Path, recipe: Recipe, keys: Sequence[str], shapes: Shapes) -> dict[str, Scaling]:
    """Of every key, checked against the weights' shapes, in the recipe's units."""
    found = read_scaling(folder, keys, recipe.scheme)
    for key, one in found.items():
        for what, bounds, wanted in (("action", one.action, shapes.action), ("state", one.state, shapes.proprio)):
            if wanted is not None and (bounds is None or bounds.length != wanted):
                raise CheckpointError(
                    f"{folder}: {key} has bounds of {bounds.length if bounds else 'no'} {what} numbers, the weights were trained "
                    f"with {wanted}; these statistics are of another checkpoint"
                )
    return {
        key: Scaling(action=_in_units(one.action, recipe, key), state=None if shapes.proprio is None else one.state)
        for key, one in found.items()
    }


def _in_units(bounds: Bounds, recipe: Recipe, key: str) -> Bounds:
    if recipe.scale is None:
        return bounds
    scale = np.asarray(recipe.scale)
    if np.any(scale[~np.asarray(bounds.mask)] != 1.0) or np.any(scale <= 0):
        raise CheckpointError(f"{key}: action_scale must be above 0, and 1 where the mask passes a number through unscaled")
    low, high = np.asarray(bounds.low) * scale, np.asarray(bounds.high) * scale
    return bounds.model_copy(update={"low": tuple(low.tolist()), "high": tuple(high.tolist())})


def _tables(scaling: Iterable[Scaling]) -> Tables:
    found = list(scaling)
    states = tuple(one.state for one in found if one.state is not None)
    return Tables(action=Table(tuple(one.action for one in found)), state=Table(states) if states else None)


def _squares(coarse: NDArray[np.uint8], side: int) -> Tensor:
    """(rows, 8, 8, 3) → (rows, side, side, 3): nothing a network has seen, and it compresses to nothing."""
    places = np.arange(side) * 8 // side
    return torch.from_numpy(np.ascontiguousarray(coarse[:, places][:, :, places]))


def _inside_and_out(bounds: Bounds, random: np.random.Generator) -> NDArray[np.float32]:
    low, high = np.asarray(bounds.low), np.asarray(bounds.high)
    return (low + (high - low) * random.uniform(-0.1, 1.1, len(low))).astype(np.float32)
