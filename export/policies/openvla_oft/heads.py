"""What OFT adds to OpenVLA: the head that turns hidden states into actions and the projector of the robot state.

Parameter names are the published ones. They know no sequence and no files. Called by `network`, filled by `parts`.
"""

from torch import Tensor, nn
from torch.nn import functional

BLOCKS = 2  # the original builds every head with two


class ResidualBlock(nn.Module):
    """Norm, linear, ReLU, added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) → (…, width)."""
        return x + self.ffn(x)


class ResidualMlp(nn.Module):
    """Norm, linear and ReLU down to `hidden`, residual blocks, norm, linear to the actions."""

    def __init__(self, into: int, hidden: int, out: int) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(into)
        self.fc1 = nn.Linear(into, hidden)
        self.mlp_resnet_blocks = nn.ModuleList(ResidualBlock(hidden) for _ in range(BLOCKS))
        self.layer_norm2 = nn.LayerNorm(hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """(…, into) → (…, out)."""
        x = functional.relu(self.fc1(self.layer_norm1(x)))
        for block in self.mlp_resnet_blocks:
            x = block(x)
        return self.fc2(self.layer_norm2(x))


class ActionHead(nn.Module):
    """L1 regression: the hidden states of one step's numbers, side by side, become that step's action."""

    def __init__(self, hidden: int, action_dim: int) -> None:
        super().__init__()
        self.action_dim = action_dim
        self.model = ResidualMlp(hidden * action_dim, hidden, action_dim)

    def forward(self, states: Tensor) -> Tensor:
        """(B, horizon·action_dim, hidden) → (B, horizon, action_dim), normalised."""
        return self.model(states.unflatten(1, (-1, self.action_dim)).flatten(2))


class ProprioProjector(nn.Module):
    """The normalised robot state becomes one token."""

    def __init__(self, hidden: int, proprio_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(proprio_dim, hidden)
        self.fc2 = nn.Linear(hidden, hidden)

    def forward(self, state: Tensor) -> Tensor:
        """(B, proprio_dim) → (B, 1, hidden)."""
        return self.fc2(functional.gelu(self.fc1(state)))[:, None]
