"""Trains the policy on demonstrations: imitation of the expert's chunk, half of the time without the robot's state.

The same seed, data and thread count give the same weights up to floating-point order. It knows no simulator.
"""

import copy
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from export.contract.tokenize import InstructionTokenizer
from tabletop.checkpoint import FOLDER, save
from tabletop.contract import CAMERA
from tabletop.demos import LOG_FILE as DEMOS_LOG_FILE
from tabletop.demos import Demonstrations, load
from tabletop.instructions import COLOURS, PAD_ID, SPEC, UNKNOWN_ID, plain_instruction, training_instruction, vocabulary
from tabletop.network import TabletopPolicy

LOG_FILE = "training.json"
STEP_WEIGHTS = torch.linspace(1.0, 0.3, 8)
_COLOUR_WORDS = sorted(vocabulary()[colour] for colour in COLOURS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that decides a training run besides the data."""

    steps: int
    seed: int = 1
    batch: int = 64
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-4
    state_dropout: float = 0.5
    word_dropout: float = 0.1
    average_over: int = 500
    report_every: int = 250
    threads: int = 1


class Batches:
    """Random frames with freshly drawn instructions and a jitter of exposure, tint, blur and noise."""

    def __init__(self, shards: list[Demonstrations], plan: Plan) -> None:
        self._shards, self._plan = shards, plan
        self._random = np.random.default_rng(plan.seed)
        self._sizes = [len(shard.colours) for shard in shards]
        self._tokenizer = InstructionTokenizer(FOLDER, SPEC)
        truth = np.concatenate([shard.truth for shard in shards])
        self._mean, self._spread = truth.mean(0), truth.std(0) + 1e-6
        self._grain = torch.randn(16 * CAMERA.height, CAMERA.width, 3).to(torch.bfloat16)

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> dict[str, Tensor]:
        plan, random = self._plan, self._random
        shard_of = random.choice(len(self._shards), size=plan.batch, p=np.array(self._sizes) / sum(self._sizes))
        picked = [(self._shards[shard], int(random.integers(self._sizes[shard]))) for shard in shard_of]
        truth = np.stack([shard.truth[row] for shard, row in picked])
        return {
            "image": self._jittered(np.stack([shard.images[row] for shard, row in picked])),
            "ids": torch.from_numpy(np.stack([self._ids(COLOURS[shard.colours[row]]) for shard, row in picked])),
            "state": torch.from_numpy(np.stack([shard.states[row] for shard, row in picked])),
            "mask": torch.from_numpy((random.random((plan.batch, 1)) >= plan.state_dropout).astype(np.float32)),
            "chunk": torch.from_numpy(np.stack([shard.chunks[row] for shard, row in picked])),
            "truth": torch.from_numpy((truth - self._mean) / self._spread).to(torch.float32),
        }

    def _ids(self, colour: str) -> NDArray[np.int64]:
        is_plain = self._random.random() < 0.2
        ids = self._tokenizer.ids(plain_instruction(colour) if is_plain else training_instruction(colour, self._random))
        is_dropped = (self._random.random(ids.shape) < self._plan.word_dropout) & (ids != PAD_ID) & ~np.isin(ids, _COLOUR_WORDS)
        extra = int(self._random.integers(0, 6)) if self._random.random() < 0.3 else 0
        return np.concatenate([np.full(extra, UNKNOWN_ID), np.where(is_dropped, UNKNOWN_ID, ids)])[: SPEC.max_tokens]

    def _jittered(self, images: NDArray[np.uint8]) -> Tensor:
        """(B, 3, 128, 128) bfloat16 in [0, 1], channels last as the convolutions like it."""
        random, count = self._random, len(images)
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.bfloat16)
        gain = random.uniform(0.8, 1.2, (count, 1, 1, 1)) * random.uniform(0.94, 1.06, (count, 3, 1, 1)) / 255
        pixels.mul_(torch.from_numpy(gain).to(torch.bfloat16))
        pixels.add_(torch.from_numpy(random.uniform(-0.05, 0.05, (count, 1, 1, 1))).to(torch.bfloat16))
        if random.random() < 0.3:
            pixels = torch.lerp(pixels, functional.avg_pool2d(pixels, 3, stride=1, padding=1), float(random.uniform(0.2, 0.9)))
        rows = np.sort(random.integers(0, len(self._grain) - CAMERA.height, count))
        grain = torch.stack([self._grain[row : row + CAMERA.height] for row in rows]).permute(0, 3, 1, 2)
        return pixels.add_(grain, alpha=float(random.uniform(0.0, 0.02))).clamp_(0.0, 1.0)


def loss_of(network: TabletopPolicy, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parts of the loss: motion, gripper, and what the hidden layer knows of the scene."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = network.features(batch["image"], batch["ids"], batch["state"], batch["mask"])
        scaled, truth = network.scaled(hidden).float(), network.truth(hidden).float()
    wanted = batch["chunk"][..., :6] / network.caps
    motion = functional.smooth_l1_loss(scaled[..., :6], wanted, beta=0.1, reduction="none").mean((0, 2))
    gripper = functional.binary_cross_entropy_with_logits(scaled[..., 6], batch["chunk"][..., 6], reduction="none").mean(0)
    return {
        "motion": (motion * STEP_WEIGHTS).mean(),
        "gripper": 0.3 * (gripper * STEP_WEIGHTS).mean(),
        "truth": 0.3 * functional.smooth_l1_loss(truth, batch["truth"], beta=0.1),
    }


def train(folder: Path, out: Path, plan: Plan, report: Callable[[str], None]) -> dict[str, Any]:
    """Trains on every shard in `folder`, writes weights and log into `out`, returns the log."""
    torch.manual_seed(plan.seed)
    torch.set_num_threads(plan.threads)
    shards = load(folder)
    network = TabletopPolicy().to(memory_format=torch.channels_last)
    average = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=plan.learning_rate, total_steps=plan.steps, pct_start=0.05)
    started, curve, recent = time.monotonic(), [], []
    for step, batch in zip(range(1, plan.steps + 1), Batches(shards, plan), strict=False):
        parts = loss_of(network, batch)
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(parts.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        _average(average, network, min(1 - 1 / plan.average_over, step / (step + 10)))
        recent.append([float(part.detach()) for part in parts.values()])
        if step % plan.report_every == 0 or step == plan.steps:
            curve.append({"step": step, **dict(zip(parts, np.mean(recent, axis=0).round(5).tolist(), strict=True))})
            recent.clear()
            report(f"{curve[-1]} after {(time.monotonic() - started) / 60:.1f} min")
    log = {
        "plan": asdict(plan),
        "demonstrations": json.loads((folder / DEMOS_LOG_FILE).read_text()),
        "frames": sum(len(shard.colours) for shard in shards),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "minutes": round((time.monotonic() - started) / 60, 2),
        "torch": torch.__version__,
        "losses": curve,
    }
    save(average, out)
    (out / LOG_FILE).write_text(json.dumps(log, indent=2) + "\n")
    return log


def _average(average: TabletopPolicy, network: TabletopPolicy, keep: float) -> None:
    with torch.no_grad():
        for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
            slow.lerp_(fast, 1 - keep)
