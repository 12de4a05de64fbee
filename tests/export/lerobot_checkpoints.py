"""LeRobot's fixtures for tests and oracles: copies that may be spoiled, and LeRobot's own answers to compare with."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from export.contract.facts import ActionKind
from export.contract.manifest import Manifest
from export.contract.tokenize import InstructionTokenizer
from export.policies.adapter import CheckpointOptions

FIXTURES = Path("tests/fixtures")
TOLERANCE = 1e-5
Weights = dict[str, torch.Tensor]


def options(checkpoint: Path, **changes: Any) -> CheckpointOptions:
    """What an operator would say about a fixture."""
    said = CheckpointOptions(
        checkpoint=checkpoint,
        name=checkpoint.name,
        robots=("so100",),
        control_hz=30.0,
        licence="Apache-2.0",
        kind=ActionKind.JOINT_ABS,
    )
    return replace(said, **changes)


@dataclass(frozen=True, slots=True)
class Spoiled:
    """A copy of a fixture, to be changed."""

    folder: Path

    def config(self, **changes: Any) -> None:
        """Sets keys of `config.json`; None takes one out."""
        self.json("config.json", lambda found: found.update(changes))

    def json(self, file: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Changes a JSON file."""
        path = self.folder / file
        found = json.loads(path.read_text())
        change(found)
        path.write_text(json.dumps(found))

    def weights(self, change: Callable[[Weights], object], file: str = "model.safetensors") -> None:
        """Changes a file of tensors."""
        found = load_file(self.folder / file)
        change(found)
        save_file(found, self.folder / file)


def spoil(name: str, place: Path) -> Spoiled:
    """A fresh copy of `tests/fixtures/name` under `place`."""
    return Spoiled(Path(shutil.copytree(FIXTURES / name, place / name)))


def asked(folder: Path, manifest: Manifest) -> tuple[dict[str, torch.Tensor], NDArray[np.float32]]:
    """What LeRobot was asked, as our wire has it, and the chunks that it answered."""
    with np.load(folder / "answers.npz", allow_pickle=False) as found:
        arrays = {name: found[name] for name in found}
    pictures = [name for name in arrays if "image" in name]
    inputs = {camera.tensor: arrays[name] for camera, name in zip(manifest.cameras, pictures, strict=True)}
    if manifest.instruction is not None:
        tokenizer = InstructionTokenizer(folder / "vlm", manifest.instruction)
        sentences = json.loads((folder / "sentences.json").read_text())
        inputs[manifest.instruction.tensor] = np.stack([tokenizer.ids(sentence.strip()) for sentence in sentences])
    vectors = [arrays[name] for name in ("observation.state", "observation.environment_state") if name in arrays]
    inputs["state"] = np.concatenate(vectors, axis=1)
    if manifest.noise is not None:
        inputs[manifest.noise.tensor] = arrays["noise"]
    return {name: torch.from_numpy(value) for name, value in inputs.items()}, arrays["answer.chunk"]


def furthest(found: torch.Tensor | NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest difference; infinite where the shapes differ."""
    values = np.asarray(found)
    return float(np.abs(values - expected).max()) if values.shape == expected.shape else float("inf")
