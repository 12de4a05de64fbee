"""A network, in PyTorch or ONNX, as something that can drive the robot: picture, state and words in, a chunk of actions out.

Used by closed-loop evaluation. It goes through the same resize and tokenizer as the API. It knows no simulator.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from export.contract.tokenize import InstructionTokenizer
from tabletop import checkpoint
from tabletop.contract import STATE
from tabletop.instructions import SPEC

Inputs = dict[str, NDArray[np.generic]]
Network = Callable[[Inputs], NDArray[np.float32]]  # tensors by name, batched → (B, 8, 7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A network with its tokenizer; `ask` is one request as the API would send it."""

    network: Network
    tokenizer: InstructionTokenizer

    def ask(self, picture: NDArray[np.uint8], instruction: str, state: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """(128, 128, 3) uint8 and words → (8, 7). Without state the mask says so."""
        sent = np.zeros(len(STATE.names), dtype=np.float32) if state is None else state
        inputs: Inputs = {
            "image": picture[None],
            "instruction_ids": self.tokenizer.ids(instruction)[None],
            "state": sent[None],
            "state_mask": np.array([[state is not None]], dtype=np.float32),
        }
        return self.network(inputs)[0]


def from_weights(folder: Path) -> Policy:
    """The PyTorch network with the weights in `folder`, on one thread."""
    torch.set_num_threads(1)
    network = checkpoint.load(folder)

    def answer(inputs: Inputs) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = network(**{name: torch.from_numpy(value) for name, value in inputs.items()}).numpy()
        return found

    return Policy(network=answer, tokenizer=InstructionTokenizer(folder, SPEC))


def leading(folder: Path) -> Callable[[NDArray[np.uint8], str, NDArray[np.float32] | None], NDArray[np.float32]]:
    """What drives with the weights in `folder`, see `Policy.ask`."""
    return from_weights(folder).ask


class NoWeights(RuntimeError):  # noqa: N818 -- what is missing
    """There is no policy to drive with; the text says where and what makes one."""


def from_onnx(model: Path) -> Policy:
    """An exported graph through ONNX Runtime on one thread, as Triton runs it, with the words of its bundle. Raises NoWeights."""
    bundle = model.parent.parent
    if not (model.exists() and (bundle / SPEC.tokenizer_file).exists()):
        raise NoWeights(f"{model}: no exported policy there; `vlaapi export tabletop` makes one")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return Policy(network=lambda inputs: session.run(["action"], inputs)[0], tokenizer=InstructionTokenizer(bundle, SPEC))
