"""The Action Chunking Transformer at inference: cameras and state in physical units in, a chunk of actions out.

Our own plain PyTorch under LeRobot's parameter names. The variational encoder exists only in training: its latent is zero here,
as LeRobot has it. Scaling is inside, pictures come as uint8. It reads no files.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.policies.act.resnet import ResNet, Shape, map_size
from export.policies.lerobot.named import STATE_TENSOR, as_picture, named
from export.policies.lerobot.normalisation import Scaling

_ACTIVATIONS = {"relu": torch.relu, "gelu": functional.gelu}
ACTIVATIONS = frozenset(_ACTIVATIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Everything that the weights' shapes depend on. `pictures` are (height, width) in the order of the cameras."""

    backbone: Shape
    pictures: tuple[tuple[int, int], ...]
    state_size: int | None
    environment_size: int | None
    action_size: int
    chunk: int
    width: int
    heads: int
    inner: int
    encoder_layers: int
    decoder_layers: int
    latent: int
    activation: str
    is_pre_norm: bool


class Attention(nn.Module):
    """Multi-head attention with the three projections in one matrix, as torch stores it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, Q, D), (B, K, D), (B, K, D) → (B, Q, D)."""
        split = []
        for index, tokens in enumerate((query, key, value)):
            rows = slice(index * self.width, (index + 1) * self.width)
            projected = functional.linear(tokens, self.in_proj_weight[rows], self.in_proj_bias[rows])
            split.append(projected.unflatten(-1, (self.heads, -1)).transpose(1, 2))
        return self.out_proj(functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))


class _Layer(nn.Module):
    """What encoder and decoder layers share: the feed-forward part, and where the norms stand."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.is_pre_norm = layout.is_pre_norm
        self.activation = _ACTIVATIONS[layout.activation]
        self.self_attn = Attention(layout.width, layout.heads)
        self.linear1 = nn.Linear(layout.width, layout.inner)
        self.linear2 = nn.Linear(layout.inner, layout.width)
        self.norm1, self.norm2 = nn.LayerNorm(layout.width), nn.LayerNorm(layout.width)

    def attend(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Self-attention with its residual."""
        seen = self.norm1(tokens) if self.is_pre_norm else tokens
        placed = seen + positions
        mixed = tokens + self.self_attn(placed, placed, seen)
        return mixed if self.is_pre_norm else self.norm1(mixed)

    def feed(self, tokens: Tensor, norm: nn.Module) -> Tensor:
        """The feed-forward part with its residual."""
        seen = norm(tokens) if self.is_pre_norm else tokens
        mixed = tokens + self.linear2(self.activation(self.linear1(seen)))
        return mixed if self.is_pre_norm else norm(mixed)


class EncoderLayer(_Layer):
    """Self-attention, feed-forward."""

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """(B, S, D), (1, S, D) → (B, S, D)."""
        return self.feed(self.attend(tokens, positions), self.norm2)


class DecoderLayer(_Layer):
    """Self-attention, attention to what the encoder saw, feed-forward."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.multihead_attn = Attention(layout.width, layout.heads)
        self.norm3 = nn.LayerNorm(layout.width)

    def forward(self, tokens: Tensor, positions: Tensor, seen: Tensor, seen_positions: Tensor) -> Tensor:
        """(B, Q, D), (1, Q, D), (B, S, D), (1, S, D) → (B, Q, D)."""
        tokens = self.attend(tokens, positions)
        query = (self.norm2(tokens) if self.is_pre_norm else tokens) + positions
        tokens = tokens + self.multihead_attn(query, seen + seen_positions, seen)
        return self.feed(tokens if self.is_pre_norm else self.norm2(tokens), self.norm3)


class _Stack(nn.Module):
    """Layers and the norm after them, as the checkpoint groups them."""

    def __init__(self, layers: list[nn.Module], norm: nn.Module | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = nn.Identity() if norm is None else norm


class Transformer(nn.Module):
    """Scaled pictures and vectors → scaled actions. Parameter names are those under `model.` in a checkpoint."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        width, vectors = layout.width, 1 + (layout.state_size is not None) + (layout.environment_size is not None)
        self.latent = layout.latent
        self.backbone = ResNet(layout.backbone)
        self.encoder = _Stack(
            [EncoderLayer(layout) for _ in range(layout.encoder_layers)], nn.LayerNorm(width) if layout.is_pre_norm else None
        )
        self.decoder = _Stack([DecoderLayer(layout) for _ in range(layout.decoder_layers)], nn.LayerNorm(width))
        if layout.state_size is not None:
            self.encoder_robot_state_input_proj = nn.Linear(layout.state_size, width)
        if layout.environment_size is not None:
            self.encoder_env_state_input_proj = nn.Linear(layout.environment_size, width)
        self.encoder_latent_input_proj = nn.Linear(layout.latent, width)
        self.encoder_img_feat_input_proj = nn.Conv2d(layout.backbone.widths[-1], width, kernel_size=1)
        self.encoder_1d_feature_pos_embed = nn.Embedding(vectors, width)
        self.decoder_pos_embed = nn.Embedding(layout.chunk, width)
        self.action_head = nn.Linear(width, layout.action_size)
        self.register_buffer("places", _places(layout), persistent=False)

    def forward(self, pictures: list[Tensor], state: Tensor | None, environment: Tensor | None) -> Tensor:
        """(B, 3, H, W) per camera, (B, S), (B, E) → (B, chunk, A)."""
        batch = pictures[0].shape[0]  # len() would freeze the batch size when the graph is traced
        tokens = [self.encoder_latent_input_proj(pictures[0].new_zeros(batch, self.latent))[:, None]]
        if state is not None:
            tokens.append(self.encoder_robot_state_input_proj(state)[:, None])
        if environment is not None:
            tokens.append(self.encoder_env_state_input_proj(environment)[:, None])
        tokens += [self.encoder_img_feat_input_proj(self.backbone(one)).flatten(2).transpose(1, 2) for one in pictures]
        positions = torch.cat((self.encoder_1d_feature_pos_embed.weight, self.places))[None]
        seen = torch.cat(tokens, dim=1)
        for layer in self.encoder.layers:
            seen = layer(seen, positions)
        seen = self.encoder.norm(seen)
        queries = self.decoder_pos_embed.weight[None]
        chunk = torch.zeros_like(queries).expand(batch, -1, -1)
        for layer in self.decoder.layers:
            chunk = layer(chunk, queries, seen, positions)
        return self.action_head(self.decoder.norm(chunk))


class Act(nn.Module):
    """The served graph: what comes over the wire → actions in physical units."""

    def __init__(self, transformer: Transformer, scalings: "Scalings") -> None:
        super().__init__()
        self.transformer = transformer
        self.cameras = nn.ModuleDict(scalings.cameras)
        self.state, self.environment, self.action = scalings.state, scalings.environment, scalings.action
        self.state_size = scalings.state_size
        has_vectors = scalings.state is not None or scalings.environment is not None
        self.forward = named(self._answer, (*scalings.cameras, *([STATE_TENSOR] if has_vectors else [])))

    def _answer(self, **inputs: Tensor) -> Tensor:
        """Cameras by tensor name (B, H, W, 3) uint8 and `state` (B, S + E) float32 → (B, chunk, A) float32."""
        pictures = [scaling(as_picture(inputs[name])) for name, scaling in self.cameras.items()]
        vectors = inputs.get(STATE_TENSOR)
        state = environment = None
        if vectors is not None and self.state is not None:
            state = self.state(vectors[:, : self.state_size])
        if vectors is not None and self.environment is not None:
            environment = self.environment(vectors[:, self.state_size :])
        return self.action.inverse(self.transformer(pictures, state, environment))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalings:
    """One per input; cameras by tensor name in the network's order. `state_size` splits robot state from the environment's."""

    cameras: dict[str, Scaling]
    state: Scaling | None
    environment: Scaling | None
    state_size: int
    action: Scaling


def _places(layout: Layout) -> Tensor:
    """(features of all cameras, width): where each feature lies in its picture."""
    maps = [[map_size(side, is_dilated=layout.backbone.is_dilated) for side in picture] for picture in layout.pictures]
    return torch.cat([_sinusoids(height, width, layout.width // 2) for height, width in maps])


def _sinusoids(height: int, width: int, size: int) -> Tensor:
    """(height · width, 2 · size): sines and cosines of row, then column, both counted from 1 and scaled to 2π."""
    frequency = 10000 ** (2 * (torch.arange(size, dtype=torch.float32, device="cpu") // 2) / size)
    halves = []
    for count in (height, width):
        steps = torch.arange(1, count + 1, dtype=torch.float32, device="cpu")
        angles = (steps / (steps[-1] + 1e-6) * (2 * math.pi))[:, None] / frequency
        halves.append(torch.stack((angles[:, 0::2].sin(), angles[:, 1::2].cos()), dim=-1).flatten(1))
    rows, columns = halves
    return torch.cat((rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)), dim=-1).flatten(0, 1)
