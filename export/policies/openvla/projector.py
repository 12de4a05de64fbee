"""The projector from vision features to the language model's width: three layers behind fused towers, two behind a single one.

It knows nothing of pictures or words. Called by `network` and by the OFT family.
"""

from torch import Tensor, nn
from torch.nn import functional


class Projector(nn.Module):
    """A small MLP with exact GELU; `is_fused` decides its depth, as in the published checkpoints."""

    def __init__(self, vision_dim: int, text_dim: int, *, is_fused: bool) -> None:
        super().__init__()
        hidden = 4 * vision_dim if is_fused else text_dim
        self.fc1 = nn.Linear(vision_dim, hidden)
        self.fc2 = nn.Linear(hidden, text_dim)
        self.fc3 = nn.Linear(text_dim, text_dim) if is_fused else None

    def forward(self, features: Tensor) -> Tensor:
        """(B, patches, vision_dim) → (B, patches, text_dim)."""
        projected = self.fc2(functional.gelu(self.fc1(features)))
        return projected if self.fc3 is None else self.fc3(functional.gelu(projected))
