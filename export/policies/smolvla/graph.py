"""The served graph of SmolVLA: what comes over the wire becomes what the network takes, its chunk becomes physical units.

Pictures are resized here, not by the contract: LeRobot interpolates without smoothing and puts the picture into the lower right
corner, black above and to its left. It reads no files.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from export.policies.lerobot.named import INSTRUCTION_TENSOR, NOISE_TENSOR, STATE_TENSOR, as_picture, named
from export.policies.lerobot.normalisation import Scaling
from export.policies.smolvla.network import FlowMatching


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """How the wire's tensors are read. Cameras by tensor name in the network's order; `side` of the square that they become."""

    cameras: dict[str, Scaling]
    side: int
    pad_id: int
    state: Scaling
    action: Scaling
    action_size: int


class SmolVla(nn.Module):
    """Cameras (B, H, W, 3) uint8, ids (B, T), state (B, S), noise (B, chunk, max) → (B, chunk, A) float32."""

    def __init__(self, flow: FlowMatching, wire: Wire) -> None:
        super().__init__()
        self.flow = flow
        self.cameras = nn.ModuleDict(wire.cameras)
        self.state, self.action = wire.state, wire.action
        self.side, self.pad_id, self.action_size = wire.side, wire.pad_id, wire.action_size
        self.forward = named(self._answer, (*wire.cameras, INSTRUCTION_TENSOR, STATE_TENSOR, NOISE_TENSOR))

    def _answer(self, **inputs: Tensor) -> Tensor:
        pictures = [self._picture(scaling(as_picture(inputs[name]))) for name, scaling in self.cameras.items()]
        ids, state = inputs[INSTRUCTION_TENSOR], self.state(inputs[STATE_TENSOR])
        state = functional.pad(state, (0, self.flow.layout.state_size - state.shape[1]))
        chunk = self.flow(pictures, ids, ids != self.pad_id, state, inputs[NOISE_TENSOR])
        return self.action.inverse(chunk[:, :, : self.action_size])

    def _picture(self, picture: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] → (B, 3, side, side) in [−1, 1]."""
        height, width = picture.shape[2:]
        ratio = max(width / self.side, height / self.side)
        inner = (int(height / ratio), int(width / ratio))
        picture = functional.interpolate(picture, size=inner, mode="bilinear", align_corners=False)
        picture = functional.pad(picture, (self.side - inner[1], 0, self.side - inner[0], 0))
        return picture * 2.0 - 1.0
