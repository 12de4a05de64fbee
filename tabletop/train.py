"""Trains the policy on demonstrations: imitation of the expert's chunk, half of the time without the robot's state.

The same seed, data and thread count give the same weights up to floating-point order. A run that was interrupted goes on where
its last report was. It knows no simulator.
"""

import copy
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from export.contract.tokenize import InstructionTokenizer
from tabletop.batches import Batches, Drawing
from tabletop.checkpoint import save, start_from
from tabletop.instructions import SPEC, vocabulary, write_tokenizer
from tabletop.network import TabletopPolicy
from tabletop.shards import Demonstrations

LOG_FILE, STATE_FILE = "training.json", "training.state"
STEP_WEIGHTS = torch.linspace(1.0, 0.3, 8)
LOOK_SHARE = 0.02  # a keypoint that looks nowhere in particular costs 7 each


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that decides a training run besides the data."""

    steps: int
    seed: int = 1
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-4
    average_over: int = 500
    report_every: int = 100
    threads: int = 1
    start_from: str | None = None  # a folder of weights whose words and filters are taken over
    drawing: Drawing = field(default_factory=Drawing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where weights and log go, and where an unfinished run is kept."""

    out: Path
    state: Path
    about: dict[str, Any] = field(default_factory=dict)  # what the data is, for the log


Report = Callable[[dict[str, float]], None]


class Unfinished(RuntimeError):  # noqa: N818 -- what is there
    """An unfinished run of another plan is in the way; the text says which file."""


def loss_of(network: TabletopPolicy, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parts of the loss: motion, gripper, what the hidden layer knows of the scene, and where the first keypoints look."""
    hidden, maps = network.features(batch["image"], batch["ids"], batch["state"], batch["mask"])
    scaled, truth = network.scaled(hidden), network.truth(hidden)
    looked = (network.looked_at(maps).gather(-1, batch["cells"]) * batch["shares"]).sum((-1, -2))
    wanted = batch["chunk"][..., :6] / network.caps
    motion = functional.smooth_l1_loss(scaled[..., :6], wanted, beta=0.1, reduction="none").mean((0, 2))
    gripper = functional.binary_cross_entropy_with_logits(scaled[..., 6], batch["chunk"][..., 6], reduction="none").mean(0)
    return {
        "motion": (motion * STEP_WEIGHTS).mean(),
        "gripper": 0.3 * (gripper * STEP_WEIGHTS).mean(),
        "truth": 0.3 * functional.smooth_l1_loss(truth, batch["truth"], beta=0.1),
        "look": -LOOK_SHARE * looked.mean(),
    }


def train(shards: list[Demonstrations], place: Place, plan: Plan, report: Report) -> dict[str, Any]:
    """Trains on `shards`, writes weights, tokenizer and log into `place.out`, returns the log."""
    place.out.mkdir(parents=True, exist_ok=True)
    write_tokenizer(place.out)
    torch.set_num_threads(plan.threads)
    run = _Run(Batches(shards, InstructionTokenizer(place.out, SPEC), plan.drawing, plan.seed), plan)
    if place.state.exists():
        run.go_on_from(place.state)
    while run.step < plan.steps:
        run.advance(report)
        run.keep(place.state)
        save(run.average, place.out)
    log = place.about | run.log()
    save(run.average, place.out)
    (place.out / LOG_FILE).write_text(json.dumps(log, indent=2) + "\n")
    place.state.unlink(missing_ok=True)
    return log


class _Run:
    """A training run in memory."""

    def __init__(self, batches: Batches, plan: Plan) -> None:
        torch.manual_seed(plan.seed)
        network = TabletopPolicy(words=len(vocabulary()))
        if plan.start_from is not None:
            start_from(network, Path(plan.start_from))
        self._batches, self._plan = batches, plan
        self._network = network.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self._network)
        self._optimiser = torch.optim.AdamW(network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, max_lr=plan.learning_rate, total_steps=plan.steps, pct_start=0.05
        )
        self.step, self._seconds, self._curve = 0, 0.0, list[dict[str, float]]()

    def advance(self, report: Report) -> None:
        """Trains until the next report, and gives it."""
        recent, began = [], time.monotonic()
        goal = min(self._plan.steps, self.step + self._plan.report_every)
        while self.step < goal:
            recent.append(self._train_step())
        self._seconds += time.monotonic() - began
        losses = {name: round(float(np.mean([one[name] for one in recent])), 5) for name in recent[0]}
        self._curve.append({"step": self.step, **losses})
        report(self._curve[-1] | {"minutes": round(self._seconds / 60, 1)})

    def _train_step(self) -> dict[str, float]:
        parts = loss_of(self._network, self._batches.draw())
        self._optimiser.zero_grad(set_to_none=True)
        torch.stack(list(parts.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        self._optimiser.step()
        self._schedule.step()
        self.step += 1
        _average(self.average, self._network, min(1 - 1 / self._plan.average_over, self.step / (self.step + 10)))
        return {name: float(part.detach()) for name, part in parts.items()}

    def keep(self, path: Path) -> None:
        """Writes everything that going on needs; the file is whole or the one before."""
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".half")
        kept = {part: getattr(self, part).state_dict() for part in _PARTS}
        told = {"plan": asdict(self._plan), "frames": self._batches.frames, "draws": self._batches.state}
        torch.save(kept | told | {"step": self.step, "seconds": self._seconds, "curve": self._curve}, half)
        half.rename(path)

    def go_on_from(self, path: Path) -> None:
        """Takes up what `keep` wrote. Raises Unfinished where plan or data are not the same."""
        kept = torch.load(path, weights_only=True)
        if (kept["plan"], kept["frames"]) != (asdict(self._plan), self._batches.frames):
            raise Unfinished(f"{path} is an unfinished run of another plan or other data: finish it, or remove the file")
        for part in _PARTS:
            getattr(self, part).load_state_dict(kept[part])
        self._batches.go_on_from(kept["draws"])
        self.step, self._seconds, self._curve = kept["step"], kept["seconds"], kept["curve"]

    def log(self) -> dict[str, Any]:
        """What was done, for the model's card."""
        begun = None if self._plan.start_from is None else Path(self._plan.start_from) / LOG_FILE
        before = {} if begun is None or not begun.exists() else {"before": json.loads(begun.read_text())}
        return before | {
            "plan": asdict(self._plan),
            "frames": self._batches.frames,
            "parameters": sum(parameter.numel() for parameter in self._network.parameters()),
            "minutes": round(self._seconds / 60, 2),
            "torch": torch.__version__,
            "losses": self._curve,
        }


_PARTS = ("_network", "average", "_optimiser", "_schedule")


@torch.no_grad()
def _average(average: TabletopPolicy, network: TabletopPolicy, keep: float) -> None:
    """An exponential moving average of the weights: steadier than the last step."""
    for mean, latest in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(latest, 1 - keep)
