"""The policy's network: a small convolutional net that the instruction modulates (FiLM), keypoints, and a chunk of eight actions.

`forward` is exactly what is exported: raw uint8 pixels, token ids, joint state and its mask in; metres, radians and gripper out,
never faster than the caps. `features` gives training the unscaled values. It knows no data set, no simulator and no ONNX.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tabletop.arm import HOME_RAD, JOINT_FRAMES, JOINTS, TOOL_FRAME, frame_matrix
from tabletop.contract import ACTION, CAMERA, HORIZON, STATE
from tabletop.expert import SHIFT_CAP_M, TURN_CAP_RAD
from tabletop.instructions import PAD_ID, vocabulary

ACTION_SIZE = len(ACTION.names)
TRUTH_SIZE = 8
LOOKS = 2  # keypoints that training points at something: the tool, and what the hand is after
CELLS = CAMERA.height // 4  # along each side of the maps


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How big the network is."""

    channels: int = 32
    blocks: int = 2
    text: int = 64
    hidden: int = 384


class InstructionEncoder(nn.Module):
    """Word vectors weighted by how much each matters; word order is not looked at."""

    def __init__(self, size: int, words: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, size)
        self.weight = nn.Linear(size, 1)
        self.out = nn.Linear(size, size)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) int64 → (B, size)."""
        words = self.words(ids)
        scores = self.weight(words).squeeze(-1).masked_fill(ids == PAD_ID, -1e4)
        pooled = (functional.softmax(scores, dim=-1).unsqueeze(-1) * words).sum(1)
        return functional.gelu(self.out(pooled))


class FilmBlock(nn.Module):
    """A residual block whose middle is scaled and shifted per channel by the instruction."""

    def __init__(self, channels: int, text: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(4, channels)
        self.film = nn.Linear(text, 2 * channels)

    def forward(self, maps: Tensor, text: Tensor) -> Tensor:
        scale, shift = self.film(text)[:, :, None, None].chunk(2, dim=1)
        inner = functional.relu(self.norm(self.first(maps)) * (1 + scale) + shift)
        return functional.relu(maps + self.second(inner))


class Keypoints(nn.Module):
    """Where each channel is brightest: the mean position under a softmax, finer than a cell."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.ones(channels))
        line = torch.linspace(-1.0, 1.0, side)
        self.register_buffer("grid", torch.stack([line.repeat(side), line.repeat_interleave(side)], dim=-1), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, side, side) → (B, 2C)."""
        weights = functional.softmax(self.sharpened(maps), dim=-1)
        return (weights @ self.grid.to(weights.dtype)).flatten(1)

    def sharpened(self, maps: Tensor) -> Tensor:
        """(B, C', side, side) of the first C' channels → (B, C', side²): what the softmax is taken of, row by row."""
        return maps.flatten(2) * self.sharpness[: maps.shape[1], None]


class StateEncoder(nn.Module):
    """Joint angles, finger width and the tool pose computed from them; a learned vector stands in when no state was sent."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.inner = nn.Linear(len(STATE.names) + 12, size)
        self.absent = nn.Parameter(torch.zeros(size))
        frames = torch.stack([torch.as_tensor(frame_matrix(frame), dtype=torch.float32) for frame in JOINT_FRAMES])
        self.register_buffer("frames", frames, persistent=False)
        self.register_buffer("tool", torch.as_tensor(frame_matrix(TOOL_FRAME), dtype=torch.float32), persistent=False)
        self.register_buffer("home", torch.as_tensor(HOME_RAD, dtype=torch.float32), persistent=False)
        basis = torch.zeros(3, 4, 4)  # a turn about z is constant + cos · basis + sin · basis
        basis[0, 2, 2] = basis[0, 3, 3] = basis[1, 0, 0] = basis[1, 1, 1] = basis[2, 1, 0] = 1.0
        basis[2, 0, 1] = -1.0
        self.register_buffer("basis", basis, persistent=False)

    def forward(self, state: Tensor, mask: Tensor) -> Tensor:
        """(B, 8) and (B, 1) → (B, size). Where the mask is 0 the state has no influence at all."""
        joints, width = state[:, :JOINTS], state[:, JOINTS:]
        pose = self._tool_pose(joints)
        centred = (pose[:, :3, 3] - torch.tensor([0.49, 0.0, 0.10])) / 0.1
        known = torch.cat([joints - self.home, width / 0.04 - 1.0, centred, pose[:, :3, :3].flatten(1)], dim=-1)
        encoded = functional.gelu(self.inner(known))
        return torch.where(mask > 0.5, encoded, self.absent)

    def _tool_pose(self, joints: Tensor) -> Tensor:
        angles = joints[:, :, None, None]
        turns = self.basis[0] + torch.cos(angles) * self.basis[1] + torch.sin(angles) * self.basis[2]
        links = self.frames @ turns
        pose = links[:, 0]
        for joint in range(1, JOINTS):
            pose = pose @ links[:, joint]
        return pose @ self.tool


class TabletopPolicy(nn.Module):
    """The whole policy, for so many `words` (None: the grammar's). Random weights until `checkpoint.load` fills them in."""

    def __init__(self, size: Size | None = None, *, words: int | None = None) -> None:
        super().__init__()
        size = size or Size()
        channels = size.channels
        self.text = InstructionEncoder(size.text, len(vocabulary()) if words is None else words)
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.blocks = nn.ModuleList(FilmBlock(channels, size.text) for _ in range(size.blocks))
        self.keypoints = Keypoints(channels, CELLS)
        self.state = StateEncoder(64)
        seen = 2 * channels + channels * 16
        self.head = nn.Sequential(
            nn.Linear(seen + 64 + size.text, size.hidden), nn.GELU(), nn.Linear(size.hidden, size.hidden), nn.GELU()
        )
        self.action = nn.Linear(size.hidden, HORIZON * ACTION_SIZE)
        self.truth = nn.Linear(size.hidden, TRUTH_SIZE)  # for training only: what the picture says about tool and cube
        self.register_buffer("caps", torch.tensor([SHIFT_CAP_M] * 3 + [TURN_CAP_RAD] * 3), persistent=False)

    def features(self, image: Tensor, ids: Tensor, state: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, 128, 128) in [0, 1] and the rest → (B, hidden), and the maps that the keypoints are taken of."""
        text = self.text(ids)
        maps = self.stem((image - 0.45) / 0.25)
        for block in self.blocks:
            maps = block(maps, text)
        context = functional.avg_pool2d(maps, CAMERA.height // 16).flatten(1)
        seen = torch.cat([self.keypoints(maps), context, self.state(state, mask), text], dim=-1)
        return self.head(seen), maps

    def looked_at(self, maps: Tensor) -> Tensor:
        """(B, 2, 32²) logarithms of how much the first two keypoints look at each place, row by row; for training only."""
        return functional.log_softmax(self.keypoints.sharpened(maps[:, :LOOKS]), dim=-1)

    def scaled(self, hidden: Tensor) -> Tensor:
        """(B, hidden) → (B, 8, 7): motion in units of the caps, gripper as a logit."""
        return self.action(hidden).view(-1, HORIZON, ACTION_SIZE)

    def forward(self, image: Tensor, instruction_ids: Tensor, state: Tensor, state_mask: Tensor) -> Tensor:
        """(B, 128, 128, 3) uint8, (B, T) int64, (B, 8), (B, 1) → (B, 8, 7) in m, rad and gripper 0..1, within the caps."""
        pixels = image.permute(0, 3, 1, 2).to(torch.float32) / 255.0
        hidden, _ = self.features(pixels, instruction_ids, state, state_mask)
        chunk = self.scaled(hidden)
        shift, turn = _within_one(chunk[..., :3]), _within_one(chunk[..., 3:6])
        motion = torch.cat([shift, turn], dim=-1) * self.caps
        return torch.cat([motion, torch.sigmoid(chunk[..., 6:])], dim=-1)


def _within_one(vector: Tensor) -> Tensor:
    """The same direction, no longer than 1."""
    length = vector.square().sum(-1, keepdim=True).sqrt()
    return vector / length.clamp(min=1.0)
