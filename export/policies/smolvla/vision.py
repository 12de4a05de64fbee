"""SmolVLM's eyes: a SigLIP-like tower and the connector that folds squares of patches into one token of the language model.

Plain PyTorch under transformers' parameter names. Pictures come resized and scaled to [−1, 1]; it knows no camera and no files.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionShape:
    """What the tower's weights depend on. `trained` is the side of the pictures of pre-training, `side` that of this policy's."""

    width: int
    inner: int
    layers: int
    heads: int
    patch: int
    trained: int
    epsilon: float
    fold: int  # patches along a side that become one token
    size: tuple[int, int]  # (height, width) of the pictures

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        return self.size[0] // self.patch, self.size[1] // self.patch

    @property
    def tokens(self) -> int:
        """Tokens of one picture."""
        return self.grid[0] * self.grid[1] // self.fold**2


class _Attention(nn.Module):
    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(shape.width, shape.width) for _ in range(4))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) → (B, N, D), everything sees everything."""
        parts = [part(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q_proj, self.k_proj, self.v_proj)]
        return self.out_proj(functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))


class _FeedForward(nn.Module):
    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(shape.width, shape.inner), nn.Linear(shape.inner, shape.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) → (B, N, D)."""
        return self.fc2(functional.gelu(self.fc1(tokens), approximate="tanh"))


class _Layer(nn.Module):
    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.layer_norm1, self.layer_norm2 = (nn.LayerNorm(shape.width, eps=shape.epsilon) for _ in range(2))
        self.self_attn, self.mlp = _Attention(shape), _FeedForward(shape)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) → (B, N, D)."""
        tokens = tokens + self.self_attn(self.layer_norm1(tokens))
        return tokens + self.mlp(self.layer_norm2(tokens))


class _Embeddings(nn.Module):
    """Patches and their places.

    A grid smaller than the trained one spreads over it. transformers 4.55 to at least 5.x compute the places in the pictures' own
    precision and in float32 shift all but the first by one (issue 41190, pull request 47133); SmolVLA was trained in bfloat16,
    where they are right, so whole numbers are used here.
    """

    places: Tensor

    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        side = shape.trained // shape.patch
        self.patch_embedding = nn.Conv2d(3, shape.width, kernel_size=shape.patch, stride=shape.patch)
        self.position_embedding = nn.Embedding(side**2, shape.width)
        down, across = (torch.arange(count, device="cpu") * side // count for count in shape.grid)
        self.register_buffer("places", (down[:, None] * side + across).flatten(), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, N, D)."""
        patches = self.patch_embedding(pictures).flatten(2).transpose(1, 2)
        return patches + self.position_embedding(self.places)


class _Encoder(nn.Module):
    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_Layer(shape) for _ in range(shape.layers)])


class VisionTower(nn.Module):
    """Pictures become patch features."""

    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.embeddings, self.encoder = _Embeddings(shape), _Encoder(shape)
        self.post_layernorm = nn.LayerNorm(shape.width, eps=shape.epsilon)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, patches, D)."""
        tokens = self.embeddings(pictures)
        for layer in self.encoder.layers:
            tokens = layer(tokens)
        return self.post_layernorm(tokens)


class _Projection(nn.Module):
    def __init__(self, shape: VisionShape, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(shape.width * shape.fold**2, width, bias=False)


class Connector(nn.Module):
    """Folds squares of `fold` × `fold` patches and projects them into the language model."""

    def __init__(self, shape: VisionShape, width: int) -> None:
        super().__init__()
        self.grid, self.fold = shape.grid, shape.fold
        self.modality_projection = _Projection(shape, width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, patches, D) → (B, patches / fold², width)."""
        down, across = (count // self.fold for count in self.grid)
        squares = features.unflatten(1, (down, self.fold, across, self.fold)).transpose(2, 3)
        return self.modality_projection.proj(squares.flatten(3).flatten(1, 2))
