"""Vision transformers as timm builds them, with timm's parameter names, and the one or two towers of OpenVLA side by side.

Features are those of the second-to-last block, without final norm and without class and register tokens. The last block, the
final norm and SigLIP's pooling are never run; they exist because the published checkpoints hold them and every name is checked.
It knows no checkpoint files and no language model. Called by `network` and by the OFT family.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.policies.openvla.tower_config import Tower


class LayerScale(nn.Module):
    """A factor per channel; Hugging Face's name for timm's `gamma`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale_factor = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(…, dim) → (…, dim)."""
        return x * self.scale_factor


class Attention(nn.Module):
    """Self-attention over all tokens, keys and values from one matrix."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, dim) → (B, N, dim)."""
        batch, tokens, dim = x.shape
        query, key, value = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim))


class FeedForward(nn.Module):
    """Two layers with exact GELU, or the sigmoid approximation that OpenAI's CLIP was trained with."""

    def __init__(self, dim: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(…, dim) → (…, dim)."""
        x = self.fc1(x)
        x = x * torch.sigmoid(1.702 * x) if self.activation == "quick_gelu" else functional.gelu(x)
        return self.fc2(x)


class Block(nn.Module):
    """Attention and feed-forward, each after a norm and added to its input."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        dim = tower.embed_dim
        self.norm1 = nn.LayerNorm(dim, eps=tower.norm_eps)
        self.attn = Attention(dim, tower.num_heads)
        self.ls1 = LayerScale(dim) if tower.has_layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(dim, eps=tower.norm_eps)
        self.mlp = FeedForward(dim, tower.mlp_dim, tower.activation)
        self.ls2 = LayerScale(dim) if tower.has_layer_scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, dim) → (B, N, dim)."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbedding(nn.Module):
    """Cuts the picture into squares and projects each; CLIP's has no bias."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        size = tower.patch_size
        self.proj = nn.Conv2d(3, tower.embed_dim, kernel_size=size, stride=size, bias=not tower.has_pre_norm)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, patches, dim), row by row."""
        return self.proj(pixels).flatten(2).transpose(1, 2)


class AttentionPool(nn.Module):
    """SigLIP's pooling: parameters only, because OpenVLA takes the patches before it."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        dim = tower.embed_dim
        self.latent = nn.Parameter(torch.zeros(1, 1, dim))
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=tower.norm_eps)
        self.mlp = FeedForward(dim, tower.mlp_dim, tower.activation)


class VisionTransformer(nn.Module):
    """One tower."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        dim = tower.embed_dim
        self.prefix_tokens, self.is_prefix_positioned = tower.prefix_tokens, tower.is_prefix_positioned
        self.patch_embed = PatchEmbedding(tower)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if tower.has_class_token else None
        self.reg_token = nn.Parameter(torch.zeros(1, tower.register_tokens, dim)) if tower.register_tokens else None
        positions = tower.patches + (tower.prefix_tokens if tower.is_prefix_positioned else 0)
        self.pos_embed = nn.Parameter(torch.zeros(1, positions, dim))
        self.norm_pre = nn.LayerNorm(dim, eps=tower.norm_eps) if tower.has_pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(Block(tower) for _ in range(tower.depth))
        self.norm = nn.LayerNorm(dim, eps=tower.norm_eps)
        self.attn_pool = AttentionPool(tower) if tower.has_attention_pool else None

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) normalised → (B, patches, dim): the second-to-last block's patches."""
        x = self.patch_embed(pixels)
        prefix = [token.expand(x.shape[0], -1, -1) for token in (self.cls_token, self.reg_token) if token is not None]
        if self.is_prefix_positioned:
            x = torch.cat([*prefix, x], dim=1) + self.pos_embed
        else:
            x = torch.cat([*prefix, x + self.pos_embed], dim=1)
        x = self.norm_pre(x)
        for block in list(self.blocks)[:-1]:
            x = block(x)
        return x[:, self.prefix_tokens :]


class VisionBackbone(nn.Module):
    """One or two towers; with two, each picture's channels are stacked (first tower's three, second tower's three)."""

    def __init__(self, towers: tuple[Tower, ...]) -> None:
        super().__init__()
        self.channels = 3 * len(towers)
        self.featurizer = VisionTransformer(towers[0])
        self.fused_featurizer = VisionTransformer(towers[1]) if len(towers) == 2 else None

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, channels·N, H, W) of N pictures → (B, N·patches, width), picture after picture."""
        batch, stacked, height, width = pixels.shape
        pictures = stacked // self.channels
        single = pixels.reshape(batch * pictures, self.channels, height, width)
        features = self.featurizer(single[:, :3])
        if self.fused_featurizer is not None:
            features = torch.cat([features, self.fused_featurizer(single[:, 3:])], dim=2)
        return features.reshape(batch, pictures * features.shape[1], features.shape[2])


class Normalise(nn.Module):
    """Camera bytes become the towers' pixels, in float32 whatever the weights are, exactly as `to_tensor` and `normalize` do."""

    def __init__(self, means: tuple[tuple[float, ...], ...], stds: tuple[tuple[float, ...], ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(means).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(stds).reshape(1, -1, 1, 1), persistent=False)
        self.towers = len(means)

    def forward(self, image: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 → (B, 3·towers, H, W) float32."""
        scaled = image.to(torch.float32).permute(0, 3, 1, 2) / 255.0  # in this order: TensorRT permutes no bytes
        return (torch.cat([scaled] * self.towers, dim=1) - self.mean) / self.std
