"""A policy that speaks in tokens, as small as can be: real PyTorch, a real graph, padded prompts, two data sets.

Each fault below exists only in the exported graph, as bugs of exporters do; the original network stays right. Run as a program it
exports itself into a folder and stops dead in the middle, to be killed there.
"""

import sys
import time
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

import torch
from torch import Tensor, nn

from export.contract.manifest import Manifest
from export.in_process import BACKEND
from export.onnx import Graph
from export.policies.adapter import CheckpointOptions
from tabletop.instructions import write_tokenizer
from tests.export.contracts import manifest, speaking

TOKENS, WORDS, HIDDEN = 7, 24, 16
OUTPUTS = ("action", "tokens", "is_action", "logprob", "entropy")


class Fault(Enum):
    """What the exported graph does wrong."""

    NONE = auto()
    ACTION_OFF = auto()  # by 1e-3
    ONE_TOKEN = auto()  # of one example in sixteen
    PADDING_SEEN = auto()  # the batch's longest prompt changes the others


class TinyNetwork(nn.Module):
    """Words and the picture's mean choose seven tokens; a table scales their bins."""

    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self.fault = fault
        generator = torch.Generator().manual_seed(3)
        self.words = nn.Parameter(torch.randn(128, HIDDEN, generator=generator))
        self.heads = nn.Parameter(torch.randn(HIDDEN, TOKENS, 32, generator=generator))
        self.register_buffer("scale", torch.tensor([[0.1] * TOKENS, [0.2] * TOKENS]))

    def forward(self, image: Tensor, instruction_ids: Tensor, unnorm_index: Tensor) -> tuple[Tensor, ...]:
        fault = self.fault if torch.compiler.is_exporting() else Fault.NONE
        is_word = (instruction_ids != 0).to(torch.float32)[:, :, None]
        length = is_word.sum(1)
        if fault is Fault.PADDING_SEEN:
            length = length.max(dim=0, keepdim=True).values.expand_as(length)
        said = (self.words[instruction_ids] * is_word).sum(1) / length.clamp(min=1)
        seen = image.to(torch.float32).mean((1, 2, 3))[:, None] / 255
        logprobs = torch.log_softmax(torch.einsum("bh,hnv->bnv", said + seen, self.heads), dim=-1)
        logprob, tokens = logprobs.max(dim=-1)
        if fault is Fault.ONE_TOKEN:
            tokens = tokens + (image[:, 0, 0, :1].to(torch.int64) % 16 == 0)
        action = (tokens.to(torch.float32) / 16 - 1) * self.scale[unnorm_index[:, 0]]
        if fault is Fault.ACTION_OFF:
            action = action + 1e-3
        entropy = -(logprobs.exp() * logprobs).sum(-1)
        return action[:, None, :], tokens, (tokens < 31).to(torch.uint8), logprob, entropy


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyPolicy:
    """An `adapter.Policy`. `low_precision` adds a second variant with a token wrong here and there, in another file."""

    folder: Path  # for its tokenizer
    fault: Fault = Fault.NONE
    pairs: int = 64
    low_precision: bool = False
    changes: dict[str, object] = field(default_factory=dict)
    options: CheckpointOptions | None = None

    def manifest(self, *, version: int, sha256: dict[str, str]) -> Manifest:
        """The facts of `contracts.speaking`, made small."""
        facts = speaking()
        facts |= {"policy": "tiny", "version": version, "family": "tiny", "state": None}
        facts["source"]["sha256"] = sha256
        facts["cameras"][0] |= {"width": 16, "height": 16}
        facts["instruction"] |= {"append_id": None, "max_tokens": WORDS, "buckets": [8, 16, WORDS], "pad_id": 0}
        facts["variants"] = [{"name": "onnx-cpu-fp32", "precision": "fp32", "runner": "onnx_graph", "files": ["model.onnx"]}]
        facts["served"] = "onnx-cpu-fp32"
        if self.low_precision:
            facts["variants"].append(
                {
                    "name": "onnx-cpu-bf16",
                    "precision": "bf16",
                    "runner": "onnx_graph",
                    "files": ["low.onnx"],
                    "parameters": {"graph": "low.onnx"},
                }
            )
        if self.options is not None:
            facts["source"]["command"] = self.options.command("tiny", version=version)
        return manifest(facts | self.changes)

    def examples(self) -> dict[str, Tensor]:
        """Pictures of noise; prompts of every length."""
        generator = torch.Generator().manual_seed(5)
        ids = torch.randint(2, 40, (self.pairs, WORDS), generator=generator)
        length = 1 + torch.arange(self.pairs)[:, None] % WORDS
        return {
            "image": torch.randint(0, 256, (self.pairs, 16, 16, 3), generator=generator, dtype=torch.uint8),
            "instruction_ids": torch.where(torch.arange(WORDS)[None, :] < length, ids, 0),
            "unnorm_index": torch.arange(self.pairs)[:, None] % 2,
        }

    def answers(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """The network without any fault."""
        found: tuple[Tensor, ...] = TinyNetwork(Fault.NONE).eval()(**inputs)
        return found

    def graphs(self) -> tuple[Graph, ...]:
        """One, or one per variant."""
        graphs = [("model.onnx", self.fault)] + ([("low.onnx", Fault.ONE_TOKEN)] if self.low_precision else [])
        examples = {name: value[:4] for name, value in self.examples().items()}
        return tuple(
            Graph(file=file, module=TinyNetwork(fault).eval(), examples=examples, outputs=OUTPUTS) for file, fault in graphs
        )

    def runner(self) -> Path:
        """One forward."""
        return BACKEND / "onnx_graph.py"

    def files(self) -> dict[str, Path | bytes]:
        """The tabletop's tokenizer: the words do not matter here."""
        return {"tokenizer.json": write_tokenizer(self.folder).read_bytes()}

    def evaluation_file(self) -> Path | None:
        """There is none."""
        return None


def open_checkpoint(options: CheckpointOptions) -> TinyPolicy:
    """A family of one policy; a file `fault` in the checkpoint names what is wrong with its graph."""
    fault = options.checkpoint / "fault"
    named = Fault[fault.read_text()] if fault.exists() else Fault.NONE
    changes: dict[str, object] = {"policy": options.name, "robots": list(options.robots)}
    return TinyPolicy(folder=options.checkpoint, fault=named, changes=changes, options=options)


class _Stalled(TinyPolicy):
    __slots__ = ()

    def answers(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        sys.stdout.write("in the middle\n")
        sys.stdout.flush()
        time.sleep(600)
        return super().answers(inputs)


if __name__ == "__main__":
    from export.publish import publish

    publish(_Stalled(folder=Path(sys.argv[1])), Path(sys.argv[2]), version=4)
