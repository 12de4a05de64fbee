"""The `tabletop` family: its network, example inputs, manifest facts and licence, as `export.publish` needs them.

The facts themselves stand in `tabletop.contract`; this file only arranges them. It knows no ONNX and no Triton.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from export.contract.facts import Output
from export.contract.manifest import Manifest, Source
from export.contract.preprocess import resize
from export.contract.runtime import Variant
from export.contract.tokenize import InstructionTokenizer
from export.in_process import BACKEND
from export.onnx import Graph
from export.policies.adapter import CheckpointError, CheckpointOptions
from tabletop import checkpoint
from tabletop.arm import HOME_RAD, JOINTS
from tabletop.contract import ACTION, CAMERA, CONTROL_HZ, HORIZON, POLICY, STATE
from tabletop.instructions import SPEC, held_out_instruction, plain_instruction
from tabletop.things import CUBE_COLOURS
from tabletop.verbs import Task, Verb

DESCRIPTION = (
    "Picks up what is named, moves to it or puts it in the bowl, with a simulated Panda: "
    f"FiLM-CNN, chunks of {HORIZON} steps at {CONTROL_HZ:g} Hz."
)
COMMAND = (
    "vlaapi tabletop demos --episodes 4066 && vlaapi tabletop train && vlaapi tabletop train --start-from build/tabletop/weights "
    "--weights build/tabletop/last --steps 800 --learning-rate 5e-4 && vlaapi export tabletop --weights build/tabletop/last"
)
TOLERANCE = 1e-4  # metres, radians and gripper fraction: a tenth of a millimetre
PATCHES = 6
VARIANT, MODEL_FILE = "onnx-cpu-fp32", "model.onnx"
SCENES = checkpoint.FOLDER.parent / "assets" / "scenes"


@dataclass(frozen=True, slots=True, kw_only=True)
class TabletopPolicy:
    """The trained network of `tabletop/weights` and its facts."""

    network: nn.Module
    weights: Path

    def manifest(self, *, version: int, sha256: dict[str, str]) -> Manifest:
        """The manifest of one exported version; `sha256` is per file of the bundle."""
        return Manifest(
            schema_version=2,
            policy=POLICY,
            version=version,
            family="tabletop",
            description=DESCRIPTION,
            source=Source(
                checkpoint=str(_shown(self.weights) / checkpoint.WEIGHTS_FILE),
                command=self._command() if version == 1 else f"{self._command()} --version {version}",
                licence="Apache-2.0",
                sha256=sha256,
            ),
            cameras=(CAMERA,),
            state=STATE,
            instruction=SPEC,
            action=ACTION,
            robots=("franka_panda",),
            outputs=(Output(tensor=ACTION.tensor, dtype="float32", shape=(HORIZON, len(ACTION.names)), atol=TOLERANCE),),
            variants=(Variant(name=VARIANT, precision="fp32", runner="onnx_graph", files=(MODEL_FILE,)),),
            served=VARIANT,
        )

    def _command(self) -> str:
        """How the shipped weights were made; of others only where they came from is known."""
        is_shipped = self.weights.resolve() == checkpoint.FOLDER
        return COMMAND if is_shipped else f"vlaapi export tabletop --weights {_shown(self.weights)}"

    def examples(self) -> dict[str, Tensor]:
        """Two scenes with each cube named in turn, and patches of colour; with and without state, in known and unknown words."""
        random = np.random.default_rng(17)
        tokenizer = InstructionTokenizer(self.weights, SPEC)
        pictures = [*_scenes(), *_patches(random)]
        verbs = (Verb.PICK_UP, Verb.PICK_UP, Verb.MOVE_TO, Verb.PUT_IN_BOWL)
        tasks = [
            Task(verb=verbs[index // 2 % len(verbs)], thing=f"{CUBE_COLOURS[index % len(CUBE_COLOURS)]} cube")
            for index in range(len(pictures))
        ]
        sentences = [
            plain_instruction(task) if index % 2 else held_out_instruction(task, random) for index, task in enumerate(tasks)
        ]
        joints = HOME_RAD + random.normal(0.0, 0.2, (len(pictures), JOINTS))
        width = random.uniform(0.0, 0.08, (len(pictures), 1))
        return {
            CAMERA.tensor: torch.from_numpy(np.stack(pictures)),
            SPEC.tensor: torch.from_numpy(np.stack([tokenizer.ids(sentence) for sentence in sentences])),
            STATE.tensor: torch.from_numpy(np.concatenate([joints, width], axis=1).astype(np.float32)),
            str(STATE.mask_tensor): torch.from_numpy((np.arange(len(pictures)) % 2).astype(np.float32)[:, None]),
        }

    def answers(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """The action chunk."""
        return (self.network(**inputs),)

    def graphs(self) -> tuple[Graph, ...]:
        """The whole network in one graph."""
        return (Graph(file=MODEL_FILE, module=self.network, examples=self.examples(), outputs=(ACTION.tensor,)),)

    def runner(self) -> Path:
        """One forward of one graph."""
        return BACKEND / "onnx_graph.py"

    def files(self) -> dict[str, Path | bytes]:
        """The tokenizer."""
        return {SPEC.tokenizer_file: self.weights / SPEC.tokenizer_file}

    def evaluation_file(self) -> Path | None:
        """What `vlaapi tabletop score` writes."""
        return self.weights / "evaluation.json"


def open_checkpoint(options: CheckpointOptions) -> TabletopPolicy:
    """The trained policy in `options.checkpoint`; its name, robot, rate and licence are fixed. Raises CheckpointError."""
    try:
        return TabletopPolicy(network=checkpoint.load(options.checkpoint), weights=options.checkpoint)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{options.checkpoint}: no weights of the tabletop network ({reason}); `vlaapi tabletop train`"
        ) from None


def _shown(folder: Path) -> Path:
    """As a reader elsewhere can understand it: from the repository's root, or its name alone."""
    root, whole = checkpoint.FOLDER.parent.parent, folder.resolve()
    return whole.relative_to(root) if whole.is_relative_to(root) else Path(whole.name)


def _scenes() -> list[NDArray[np.uint8]]:
    """Each committed scene once per colour."""
    found = [resize(Image.open(path).convert("RGB"), CAMERA) for path in sorted(SCENES.glob("*.jpg"))]
    return [picture for picture in found for _ in CUBE_COLOURS]


def _patches(random: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Coarse coloured squares: nothing the network has seen, and they compress to nothing."""
    coarse = random.integers(0, 256, (PATCHES, 8, 8, 3), dtype=np.uint8)
    return list(coarse.repeat(CAMERA.height // 8, axis=1).repeat(CAMERA.width // 8, axis=2))
