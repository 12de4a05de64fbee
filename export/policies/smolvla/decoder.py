"""The two Llama-like stacks of SmolVLA, layer by layer: the language model that reads, the narrower expert that acts.

Plain PyTorch under transformers' parameter names. Keys are turned by their positions with LeRobot's own rotation (base 10000,
whatever the language model's configuration says). It knows neither prefix nor flow: `network.py` puts the layers together.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

BASE = 10_000.0
HIDDEN = -3e4  # its exponential is nought beside any score, and half precision holds it


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderShape:
    """What a layer's weights depend on. `memory` is the width that keys and values come from, where it is not the layer's own."""

    width: int
    inner: int
    heads: int
    key_heads: int
    head: int
    epsilon: float
    has_attention_bias: bool
    has_inner_bias: bool
    memory: int | None = None


class RmsNorm(nn.Module):
    """Root-mean-square norm."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.epsilon = epsilon

    def forward(self, tokens: Tensor) -> Tensor:
        """(…, D) → (…, D)."""
        return self.weight * (tokens * torch.rsqrt(tokens.pow(2).mean(-1, keepdim=True) + self.epsilon))


class Attention(nn.Module):
    """Projections; what attends to what is decided outside."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.heads, self.key_heads, self.head = shape.heads, shape.key_heads, shape.head
        source, bias = shape.memory or shape.width, shape.has_attention_bias
        self.q_proj = nn.Linear(shape.width, shape.heads * shape.head, bias=bias)
        self.k_proj = nn.Linear(source, shape.key_heads * shape.head, bias=bias)
        self.v_proj = nn.Linear(source, shape.key_heads * shape.head, bias=bias)
        self.o_proj = nn.Linear(shape.heads * shape.head, shape.width, bias=bias)

    def queries(self, tokens: Tensor, turn: "Turn") -> Tensor:
        """(B, N, D) → (B, key heads, groups · N, head), scaled: all queries of a key head in one row of the product."""
        turned = turn(self.q_proj(tokens).unflatten(-1, (self.heads, self.head)).transpose(1, 2))
        return (turned * self.head**-0.5).unflatten(1, (self.key_heads, -1)).flatten(2, 3)

    def keys(self, tokens: Tensor) -> Tensor:
        """(B, N, source) → (B, key heads, N, head), not turned."""
        return self.k_proj(tokens).unflatten(-1, (self.key_heads, self.head)).transpose(1, 2)

    def values(self, tokens: Tensor) -> Tensor:
        """(B, N, source) → (B, key heads, N, head)."""
        return self.v_proj(tokens).unflatten(-1, (self.key_heads, self.head)).transpose(1, 2)

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, veil: Tensor) -> Tensor:
        """`veil` (B or 1, 1, groups · N or 1, K) from `veil` below → (B, N, D)."""
        shares = torch.softmax(queries @ keys.transpose(2, 3) + veil, dim=-1)
        heads = (shares @ values).unflatten(2, (self.heads // self.key_heads, -1)).flatten(1, 2)
        return self.o_proj(heads.transpose(1, 2).flatten(2))


class _FeedForward(nn.Module):
    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.inner, bias=shape.has_inner_bias)
        self.up_proj = nn.Linear(shape.width, shape.inner, bias=shape.has_inner_bias)
        self.down_proj = nn.Linear(shape.inner, shape.width, bias=shape.has_inner_bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) → (B, N, D)."""
        return self.down_proj(functional.silu(self.gate_proj(tokens)) * self.up_proj(tokens))


class DecoderLayer(nn.Module):
    """Norms, attention and feed-forward of one layer."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = (RmsNorm(shape.width, shape.epsilon) for _ in range(2))
        self.self_attn, self.mlp = Attention(shape), _FeedForward(shape)

    def finish(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """Both residuals around what attention found."""
        mixed = tokens + attended
        return mixed + self.mlp(self.post_attention_layernorm(mixed))


def veil(is_seen: Tensor, groups: int) -> Tensor:
    """`is_seen` (B, 1, N or 1, K) bool → what is added to scores, once per group of queries. Every query must see something."""
    hidden = (~is_seen).to(torch.float32) * HIDDEN
    return hidden if is_seen.shape[2] == 1 else hidden.repeat(1, 1, groups, 1)


class Turn:
    """Turns queries and keys by their positions."""

    def __init__(self, positions: Tensor, head: int) -> None:
        """`positions` (B or 1, N) whole numbers."""
        exponents = 2.0 / head * torch.arange(head // 2, dtype=torch.float32, device=positions.device)
        angles = positions[:, None, :, None].to(torch.float32) / BASE**exponents
        self.sine, self.cosine = angles.sin(), angles.cos()

    def __call__(self, heads: Tensor) -> Tensor:
        """(B, heads, N, head) → the same."""
        first, second = heads.chunk(2, dim=-1)
        turned = (first * self.cosine - second * self.sine, second * self.cosine + first * self.sine)
        return torch.cat(turned, dim=-1)
