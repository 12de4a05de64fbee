"""Small networks with every part that a precision must treat with care; exported once per session by `conftest`."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan
from torch.nn.functional import gelu, scaled_dot_product_attention

from export.parity import Arrays

WIDTH, HEADS, WORDS, STEPS = 64, 4, 300, 5
MASKED = torch.finfo(torch.float32).min


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A float32 graph on disk and example inputs."""

    path: Path
    inputs: Arrays


def _turned(values: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = values.shape[-1] // 2
    return values * cos + torch.cat([-values[..., half:], values[..., :half]], -1) * sin


class _Block(nn.Module):
    """Root-mean-square norm, rotated attention, layer norm, gelu."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(WIDTH))
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.norm = nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def project(self, hidden: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        normed = hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale
        shape = (*hidden.shape[:2], HEADS, WIDTH // HEADS)
        query, key, value = (part.view(shape).transpose(1, 2) for part in self.qkv(normed).chunk(3, -1))
        return _turned(query, cos, sin), _turned(key, cos, sin), value

    def finish(self, hidden: Tensor, seen: Tensor) -> Tensor:
        hidden = hidden + self.out(seen.transpose(1, 2).reshape(hidden.shape))
        return hidden + self.down(gelu(self.up(self.norm(hidden))))


class Decoder(nn.Module):
    """Pictures and words in; tokens, one at a time in a Scan with a key-value buffer, and their log-probabilities out."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.patches = nn.Conv2d(3, WIDTH, 8, 8)
        self.block = _Block()
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        self.register_buffer("frequencies", 1 / (10_000 ** (torch.arange(0, 8) / 8)))
        self.requires_grad_(requires_grad=False)

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        turns = (self.frequencies[None, :, None].expand(positions.shape[0], -1, 1) @ positions[:, None].float()).transpose(1, 2)
        both = torch.cat([turns, turns], -1)[:, None]
        return both.cos(), both.sin()

    def forward(self, image: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        pixels = self.patches((image.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25).flatten(2).transpose(1, 2)
        hidden = torch.cat([self.words(ids[:, :1]), pixels, self.words(ids[:, 1:])], 1)
        batch, length = hidden.shape[:2]
        used = (ids != 0).sum(1) + pixels.shape[1]
        places = torch.arange(length)
        is_seen = (places[None, None] <= places[None, :, None]) & (places[None, None] < used[:, None, None])
        query, key, value = self.block.project(hidden, *self.angles(places[None].expand(batch, -1)))
        seen = scaled_dot_product_attention(query, key, value, attn_mask=torch.where(is_seen, 0.0, MASKED)[:, None])
        last = self.block.finish(hidden, seen)[torch.arange(batch), used - 1]
        first = self.head(last).argmax(-1)
        buffer = torch.cat([torch.stack([key, value], 1), torch.zeros(batch, 2, HEADS, STEPS, WIDTH // HEADS)], 3)

        def step(state: list[Tensor], index: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            held, token = state
            here = used + index
            hidden = self.words(token)[:, None]
            query, key, value = self.block.project(hidden, *self.angles(here[:, None]))
            slots = torch.arange(held.shape[3])[None]
            held = torch.where((slots == here[:, None])[:, None, None, :, None], torch.stack([key, value], 1), held)
            mask = torch.where(slots <= here[:, None], 0.0, MASKED)[:, None, None]
            seen = scaled_dot_product_attention(query, held[:, 0], held[:, 1], attn_mask=mask)
            logits = self.head(self.block.finish(hidden, seen)[:, 0])
            chosen = logits.argmax(-1)
            return [held, chosen], [chosen.clone(), logits.log_softmax(-1).gather(-1, chosen[:, None])[:, 0]]

        _, (tokens, logprobs) = scan(step, [buffer, first], torch.arange(STEPS))
        return torch.cat([first[:, None], tokens.movedim(0, 1)], 1), logprobs.movedim(0, 1)


class Loud(nn.Module):
    """A hidden layer whose values pass float16's largest number, one that brings them back, and two as usual."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third, self.head = (nn.Linear(32, size) for size in (32, 32, 32, 4))
        with torch.no_grad():
            self.first.weight.mul_(3e5)
            self.second.weight.mul_(1e-6)

    def forward(self, state: Tensor) -> Tensor:
        return self.head(torch.tanh(self.third(torch.tanh(self.second(torch.relu(self.first(state)))))))


class Flow(nn.Module):
    """A flow policy in miniature: noise goes through four steps, each told the time by sines."""

    def __init__(self) -> None:
        super().__init__()
        self.time, self.given, self.inner, self.head = nn.Linear(32, 32), nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 8)

    def forward(self, noise: Tensor, start: Tensor) -> Tensor:
        action, now = noise, start
        for _ in range(4):
            waves = now * torch.exp(torch.arange(16) * -0.5)
            told = self.time(torch.cat([waves.sin(), waves.cos()], -1))
            action = action + 0.25 * self.head(torch.tanh(self.inner(torch.relu(self.given(action) + told))))
            now = now + 0.25
        return action
