"""One opened LeRobot checkpoint as `publish` wants it: the facts of `facts.py` around a family's network.

ACT and SmolVLA differ in the network, the words and the noise; everything else is here. It knows neither of them.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from export.contract.facts import Instruction, Noise, Output
from export.contract.manifest import Manifest, Source
from export.contract.runtime import Variant
from export.onnx import Graph
from export.policies.lerobot.facts import Facts
from export.policies.lerobot.layout import FeatureType
from export.policies.lerobot.named import ACTION_TENSOR, STATE_TENSOR
from export.policies.lerobot.normalisation import Mode, Scaling

VARIANT, MODEL_FILE, RUNNER = "onnx-cpu-fp32", "model.onnx", "onnx_graph"
EXAMPLES, PATCH = 8, 16
TOLERANCE = 1e-4  # of a standard deviation or half range of the action, and never less than this many units


@dataclass(frozen=True, slots=True, kw_only=True)
class LeRobotPolicy:
    """Implements `adapter.Policy`. `network` takes the wire's inputs by name and answers with the chunk in physical units."""

    facts: Facts
    network: nn.Module
    description: str
    instruction: Instruction | None = None
    noise: Noise | None = None
    words: Tensor | None = None  # example ids, one row per example
    beside: dict[str, Path | bytes] = field(default_factory=dict)

    def manifest(self, *, version: int, sha256: dict[str, str]) -> Manifest:
        """The facts of one version."""
        facts, action = self.facts, self.facts.action()
        shape = (action.horizon, len(action.names))
        return Manifest(
            schema_version=2,
            policy=facts.options.name,
            version=version,
            family=facts.settings.type,
            description=self.description,
            source=Source(
                checkpoint=facts.origin,
                command=facts.options.command(facts.settings.type, version=version),
                licence=facts.licence,
                sha256=sha256,
            ),
            cameras=facts.cameras(),
            instruction=self.instruction,
            state=facts.state(),
            noise=self.noise,
            action=action,
            robots=facts.options.robots,
            outputs=(Output(tensor=ACTION_TENSOR, dtype="float32", shape=shape, atol=_tolerance(facts.scalings.action)),),
            variants=(Variant(name=VARIANT, precision="fp32", runner=RUNNER, files=(MODEL_FILE,)),),
            served=VARIANT,
        )

    def examples(self) -> dict[str, Tensor]:
        """Patches of colour, states around the training's own, noise; the same every time."""
        random = np.random.default_rng(17)
        found: dict[str, Tensor] = {}
        for camera in self.facts.cameras():
            coarse = random.integers(0, 256, (EXAMPLES, PATCH, PATCH, 3), dtype=np.uint8)
            rows, columns = (np.arange(size) * PATCH // size for size in (camera.height, camera.width))
            found[camera.tensor] = torch.from_numpy(coarse[:, rows][:, :, columns])
        if self.instruction is not None and self.words is not None:
            found[self.instruction.tensor] = self.words
        if self.facts.state() is not None:
            found[STATE_TENSOR] = self._states(random)
        if self.noise is not None:
            found[self.noise.tensor] = torch.from_numpy(random.standard_normal((EXAMPLES, *self.noise.shape), dtype=np.float32))
        return found

    def answers(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """The chunk (B, horizon, actions), float32."""
        with torch.inference_mode():
            return (self.network(**inputs),)

    def graphs(self) -> tuple[Graph, ...]:
        """One forward pass of everything."""
        return (Graph(file=MODEL_FILE, module=self.network, examples=self.examples(), outputs=(ACTION_TENSOR,)),)

    def runner(self) -> Path:
        """One ONNX graph."""
        return Path(__file__).parents[2] / "python_backend" / f"{RUNNER}.py"

    def files(self) -> dict[str, Path | bytes]:
        """The tokenizer, where there are words."""
        return dict(self.beside)

    def evaluation_file(self) -> Path | None:
        """There is no environment of ours to evaluate it in."""
        return None

    def _states(self, random: np.random.Generator) -> Tensor:
        kinds = (FeatureType.STATE, FeatureType.ENV)
        keys = [found for kind in kinds if (found := self.facts.settings.vector(kind)) is not None]
        spread = [torch.from_numpy(random.normal(0.0, 0.7, (EXAMPLES, size)).astype(np.float32)) for _, size in keys]
        return torch.cat([self.facts.scalings.inputs[key].inverse(part) for (key, _), part in zip(keys, spread, strict=True)], 1)


def _tolerance(action: Scaling) -> float:
    """Degrees spread more than radians: what is close depends on the unit."""
    if action.mode is Mode.IDENTITY:
        return TOLERANCE
    spread = action.second if action.mode is Mode.MEAN_STD else (action.second - action.first) / 2
    return TOLERANCE * max(1.0, float(spread.max()))
