"""OpenVLA as one module with the published parameter names: towers, projector, Llama.

It joins pictures and words into the sequence that Llama reads; how tokens are chosen is `decode`'s business. It knows no files.
"""

import torch
from torch import Tensor, nn

from export.policies.openvla.config import OpenVlaConfig
from export.policies.openvla.llama import Llama
from export.policies.openvla.projector import Projector
from export.policies.openvla.towers import VisionBackbone


class OpenVla(nn.Module):
    """Built from a config, filled by `weights.load`."""

    def __init__(self, config: OpenVlaConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_backbone = VisionBackbone(config.towers)
        self.projector = Projector(config.vision_dim, config.text.hidden_size, is_fused=config.is_fused)
        self.language_model = Llama(config.text)

    def patches(self, pixels: Tensor) -> Tensor:
        """(B, 3·towers·N, H, W) float32 → (B, N·patches, hidden): what Llama reads of N pictures."""
        return see(self.vision_backbone, self.projector, pixels)

    def embeddings(self, pixels: Tensor, ids: Tensor) -> Tensor:
        """`[BOS][patches][rest of the prompt]` for (B, S) int64 ids that begin with BOS → (B, N·patches + S, hidden)."""
        return join(self.language_model.embed(ids), self.patches(pixels))


def see(backbone: VisionBackbone, projector: Projector, pixels: Tensor) -> Tensor:
    """Pixels, in the weights' type, through both; see `OpenVla.patches`."""
    return projector(backbone(pixels.to(projector.fc1.weight.dtype)))


def join(words: Tensor, patches: Tensor) -> Tensor:
    """Patches behind the first word, which is BOS: (B, S, hidden), (B, P, hidden) → (B, P + S, hidden)."""
    return torch.cat([words[:, :1], patches, words[:, 1:]], dim=1)


def meta_network(config: OpenVlaConfig) -> OpenVla:
    """The network without memory for its weights: shapes and names only."""
    with torch.device("meta"):
        return OpenVla(config).eval()
