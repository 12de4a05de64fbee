"""What one training step sees: random frames with freshly drawn instructions and a jitter of exposure, tint, blur and noise.

Everything is drawn from one generator whose state can be kept, so that an interrupted run goes on as if it had not been. It
knows of the network how many cells its maps have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from export.contract.tokenize import InstructionTokenizer
from tabletop.contract import CAMERA
from tabletop.instructions import (
    PAD_ID,
    PARTICLES,
    SPEC,
    UNKNOWN_ID,
    free_words,
    plain_instruction,
    training_instruction,
    vocabulary,
)
from tabletop.network import CELLS
from tabletop.optics import in_picture
from tabletop.shards import Demonstrations
from tabletop.verbs import ALL_TASKS

_PLAIN_SHARE, _PADDED_SHARE = 0.2, 0.3
_GRAIN_SEED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How batches are drawn."""

    batch: int = 64
    state_dropout: float = 0.5
    word_dropout: float = 0.1
    particles: float = 0.4  # share of the sentences into which words are strewn that decide nothing


def looked_at(truth: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Where tool and goal are on the network's maps: (B, 2, 4) cells around each and (B, 2, 4) how near each is, together 1.

    All shares are 0 where the place is out of the picture, or nobody knows the truth.
    """
    tool = truth[:, :3]
    points = np.stack([tool, tool + truth[:, 4:7]], axis=1)
    column, row = np.moveaxis((in_picture(points.reshape(-1, 3)) * CAMERA.width - 0.5) / (CAMERA.width // CELLS), -1, 0)
    left, top = np.clip(np.floor(column), 0, CELLS - 2), np.clip(np.floor(row), 0, CELLS - 2)
    right, down = column - left, row - top
    cells = np.stack(
        [top * CELLS + left, top * CELLS + left + 1, (top + 1) * CELLS + left, (top + 1) * CELLS + left + 1], axis=-1
    )
    shares = np.stack([(1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down], axis=-1)
    is_seen = (shares >= 0).all(-1, keepdims=True) & np.repeat(truth.any(-1), 2)[:, None]
    shape = (len(truth), 2, 4)
    return cells.astype(np.int64).reshape(shape), (shares * is_seen).astype(np.float32).reshape(shape)


class Batches:
    """An endless stream of batches."""

    def __init__(self, shards: Sequence[Demonstrations], tokenizer: InstructionTokenizer, drawing: Drawing, seed: int) -> None:
        self._shards, self._tokenizer, self._drawing = shards, tokenizer, drawing
        self._random = np.random.default_rng(seed)
        self._ends = np.cumsum([len(shard.tasks) for shard in shards])
        truth = np.concatenate([shard.truth for shard in shards])
        self._mean, self._spread = truth.mean(0), truth.std(0) + 1e-6
        grain = torch.randn(16 * CAMERA.height, CAMERA.width, 3, generator=torch.Generator().manual_seed(_GRAIN_SEED))
        self._grain = grain
        words = vocabulary()
        self._free = [words[word] for word in free_words()]
        self._particles = np.array([words[word] for word in PARTICLES])

    @property
    def frames(self) -> int:
        """How many there are to draw from."""
        return int(self._ends[-1])

    @property
    def state(self) -> dict[str, Any]:
        """Where the stream is."""
        return dict(self._random.bit_generator.state)

    def go_on_from(self, state: dict[str, Any]) -> None:
        """The next batch is the one that followed when `state` was taken."""
        self._random.bit_generator.state = state

    def draw(self) -> dict[str, Tensor]:
        """The next batch."""
        drawing, random = self._drawing, self._random
        rows = random.integers(0, self.frames, drawing.batch)
        picked = [self._at(int(row)) for row in rows]
        truth = np.stack([shard.truth[row] for shard, row in picked])
        cells, shares = looked_at(truth)
        return {
            "image": self._jittered(np.stack([shard.images[row] for shard, row in picked])),
            "ids": torch.from_numpy(np.stack([self._ids(int(shard.tasks[row])) for shard, row in picked])),
            "state": torch.from_numpy(np.stack([shard.states[row] for shard, row in picked])),
            "mask": torch.from_numpy((random.random((drawing.batch, 1)) >= drawing.state_dropout).astype(np.float32)),
            "chunk": torch.from_numpy(np.stack([shard.chunks[row] for shard, row in picked])),
            "truth": torch.from_numpy((truth - self._mean) / self._spread).to(torch.float32),
            "cells": torch.from_numpy(cells),
            "shares": torch.from_numpy(shares),
        }

    def _at(self, row: int) -> tuple[Demonstrations, int]:
        shard = int(np.searchsorted(self._ends, row, side="right"))
        return self._shards[shard], row - int(self._ends[shard - 1] if shard else 0)

    def _ids(self, task: int) -> NDArray[np.int64]:
        """A sentence for that task; words that decide nothing may be lost or stand before, as may words that nobody knows."""
        asked = ALL_TASKS[task]
        is_plain = self._random.random() < _PLAIN_SHARE
        ids = self._tokenizer.ids(plain_instruction(asked) if is_plain else training_instruction(asked, self._random))
        is_lost = (self._random.random(ids.shape) < self._drawing.word_dropout) & (ids != PAD_ID) & np.isin(ids, self._free)
        extra = int(self._random.integers(0, 6)) if self._random.random() < _PADDED_SHARE else 0
        particles = int(self._random.integers(1, 4)) if self._random.random() < self._drawing.particles else 0
        before = [np.full(extra, UNKNOWN_ID), self._random.choice(self._particles, particles)]
        return np.concatenate([*before, np.where(is_lost, UNKNOWN_ID, ids)])[: SPEC.max_tokens]

    def _jittered(self, images: NDArray[np.uint8]) -> Tensor:
        """(B, 3, 128, 128) float32 in [0, 1], channels last as the convolutions like it."""
        random, count = self._random, len(images)
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32)
        gain = random.uniform(0.8, 1.2, (count, 1, 1, 1)) * random.uniform(0.94, 1.06, (count, 3, 1, 1)) / 255
        pixels.mul_(torch.from_numpy(gain).to(torch.float32))
        pixels.add_(torch.from_numpy(random.uniform(-0.05, 0.05, (count, 1, 1, 1))).to(torch.float32))
        if random.random() < 0.3:
            pixels = torch.lerp(pixels, functional.avg_pool2d(pixels, 3, stride=1, padding=1), float(random.uniform(0.2, 0.9)))
        rows = np.sort(random.integers(0, len(self._grain) - CAMERA.height, count))
        grain = torch.stack([self._grain[row : row + CAMERA.height] for row in rows]).permute(0, 3, 1, 2)
        return pixels.add_(grain, alpha=float(random.uniform(0.0, 0.02))).clamp_(0.0, 1.0)
