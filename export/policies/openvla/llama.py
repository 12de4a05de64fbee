"""Llama in plain PyTorch with the published parameter names: RMS norm in float32, rotary positions, grouped key-value heads.

The caller brings embeddings, positions and the mask, so the same network reads a prompt, continues it from cached keys and
values, or looks both ways (OFT). It knows no pictures, prompts or tokens' meaning. Called by `network`, `decode` and the OFT
family.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.policies.openvla.config import Text


class RmsNorm(nn.Module):
    """Divides by the root mean square, in float32 whatever the weights are."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(…, dim) → (…, dim)."""
        wide = x.to(torch.float32)
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


def rotation(positions: Tensor, text: Text, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position's angles, each (B, 1, S, head_dim); `positions` is (B, S) int64."""
    exponents = torch.arange(0, text.head_dim, 2, device=positions.device).to(torch.float32) / text.head_dim
    angles = positions[:, None, :, None].to(torch.float32) * (1.0 / text.rope_theta**exponents)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turns each head's halves against each other; (B, heads, S, head_dim)."""
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([-second, first], dim=-1) * sine


class Attention(nn.Module):
    """Attention over cached and present tokens, as the mask allows."""

    def __init__(self, text: Text) -> None:
        super().__init__()
        self.heads, self.groups, self.head_dim = text.num_attention_heads, text.num_key_value_heads, text.head_dim
        width, narrow = self.heads * self.head_dim, self.groups * self.head_dim
        self.q_proj = nn.Linear(text.hidden_size, width, bias=False)
        self.k_proj = nn.Linear(text.hidden_size, narrow, bias=False)
        self.v_proj = nn.Linear(text.hidden_size, narrow, bias=False)
        self.o_proj = nn.Linear(width, text.hidden_size, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, S, hidden) → the same and this layer's new keys and values, (B, 2, groups, S, head_dim) like `past`."""
        query, key, value = (
            projection(x).unflatten(2, (-1, self.head_dim)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = rotate(query, *turn), rotate(key, *turn)
        present = torch.stack([key, value], dim=1)
        if past is not None:
            key, value = torch.cat([past[:, 0], key], dim=2), torch.cat([past[:, 1], value], dim=2)
        mixed = functional.scaled_dot_product_attention(query, self._widen(key), self._widen(value), attn_mask=mask)
        return self.o_proj(mixed.transpose(1, 2).flatten(2)), present

    def _widen(self, x: Tensor) -> Tensor:
        """Every group's keys or values once per query head of the group."""
        if self.groups == self.heads:
            return x
        batch, groups, tokens, dim = x.shape
        return x[:, :, None].expand(batch, groups, self.heads // groups, tokens, dim).reshape(batch, self.heads, tokens, dim)


class FeedForward(nn.Module):
    """Gated with SiLU."""

    def __init__(self, text: Text) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(text.hidden_size, text.intermediate_size, bias=False)
        self.up_proj = nn.Linear(text.hidden_size, text.intermediate_size, bias=False)
        self.down_proj = nn.Linear(text.intermediate_size, text.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(…, hidden) → (…, hidden)."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Attention and feed-forward, each after a norm and added to its input."""

    def __init__(self, text: Text) -> None:
        super().__init__()
        self.self_attn = Attention(text)
        self.mlp = FeedForward(text)
        self.input_layernorm = RmsNorm(text.hidden_size, text.rms_norm_eps)
        self.post_attention_layernorm = RmsNorm(text.hidden_size, text.rms_norm_eps)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """As `Attention`."""
        mixed, present = self.self_attn(self.input_layernorm(x), turn, mask, past)
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x)), present


class Decoder(nn.Module):
    """Embedding, layers and final norm: `language_model.model` in the checkpoint."""

    def __init__(self, text: Text) -> None:
        super().__init__()
        self.text = text
        self.embed_tokens = nn.Embedding(text.vocab_size, text.hidden_size)
        self.layers = nn.ModuleList(Layer(text) for _ in range(text.num_hidden_layers))
        self.norm = RmsNorm(text.hidden_size, text.rms_norm_eps)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Llama.forward`."""
        turn = rotation(positions, self.text, x.dtype)
        presents = []
        for index, layer in enumerate(self.layers):
            x, present = layer(x, turn, mask, None if past is None else past[:, index])
            presents.append(present)
        return self.norm(x), torch.stack(presents, dim=1)


class Llama(nn.Module):
    """The language model with its head over the whole vocabulary."""

    def __init__(self, text: Text) -> None:
        super().__init__()
        self.model = Decoder(text)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)

    def embed(self, ids: Tensor) -> Tensor:
        """(B, S) int64 → (B, S, hidden)."""
        return self.model.embed_tokens(ids)

    def forward(self, x: Tensor, *, positions: Tensor, mask: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Embeddings (B, S, hidden) → last hidden states after the final norm, and the new keys and values.

        `positions` (B, S) int64; `mask` bool, broadcast to (B, 1, S, T + S), true where a token may look: causal, padded or both
        ways is the caller's choice, but every token must see one; `past` (B, layers, 2, groups, T, head_dim) of T earlier tokens,
        the new ones come back as (B, layers, 2, groups, S, head_dim).
        """
        return self.model(x, positions, mask, past)

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, hidden) → (…, vocab_size)."""
        return self.lm_head(hidden)
