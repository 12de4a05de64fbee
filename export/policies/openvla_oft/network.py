"""OFT's one bidirectional pass, and the graph that Triton serves around it: uint8 pictures in, physical actions out.

    [BOS][patches of every picture][state token]?[rest of the prompt][horizon·dimensions empty tokens][stop]

The prompt may be padded on the right: padding is never looked at, and what follows keeps the positions it has behind an unpadded
prompt, so a padded batch answers as one by one. It knows no files and no robot. Called by `policy`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from export.contract.statistics import Bounds
from export.policies.openvla.network import OpenVla
from export.policies.openvla.towers import Normalise
from export.policies.openvla_oft.heads import ActionHead, ProprioProjector

STOP_ID = 2  # </s>, which stood behind the actions in training


class Oft(nn.Module):
    """OpenVLA, head and projector; the tokens of the actions carry nothing but their positions."""

    def __init__(self, vla: OpenVla, head: ActionHead, projector: ProprioProjector | None, *, horizon: int) -> None:
        super().__init__()
        self.vla, self.action_head, self.proprio_projector = vla, head, projector
        self.slots = horizon * head.action_dim
        self.pad_id = vla.config.pad_token_id

    def forward(self, pixels: Tensor, ids: Tensor, state: Tensor | None) -> Tensor:
        """(B, 3·towers·N, H, W) float32, (B, S) int64 that begin with BOS, (B, P) normalised → (B, horizon, dims) normalised."""
        seen = self.vla.patches(pixels)
        if self.proprio_projector is not None and state is not None:
            seen = torch.cat([seen, self.proprio_projector(state.to(seen.dtype))], dim=1)
        is_word = ids != self.pad_id
        hidden, _ = self.vla.language_model(
            self._sequence(seen, ids), positions=self._positions(seen.shape[1], is_word), mask=self._mask(seen, is_word)
        )
        return self.action_head(self._action_states(hidden, seen.shape[1], is_word))

    def _sequence(self, seen: Tensor, ids: Tensor) -> Tensor:
        words = self.vla.language_model.embed(ids)
        empty = words.new_zeros(words.shape[0], self.slots, words.shape[2])
        stop = self.vla.language_model.embed(torch.full_like(ids[:, :1], STOP_ID))
        return torch.cat([words[:, :1], seen, words[:, 1:], empty, stop], dim=1)

    def _positions(self, pictured: int, is_word: Tensor) -> Tensor:
        """Those of the sequence without its padding: the empty tokens follow the last word of each prompt."""
        prompt = torch.arange(pictured + is_word.shape[1], device=is_word.device).expand(is_word.shape[0], -1)
        behind = pictured + is_word.sum(1, keepdim=True) + torch.arange(self.slots + 1, device=is_word.device)
        return torch.cat([prompt, behind], dim=1)

    def _mask(self, seen: Tensor, is_word: Tensor) -> Tensor:
        """(B, 1, 1, S): everyone looks at everything but padding, both ways."""
        before = is_word.new_ones(is_word.shape[0], seen.shape[1] + 1)
        behind = is_word.new_ones(is_word.shape[0], self.slots + 1)
        return torch.cat([before, is_word[:, 1:], behind], dim=1)[:, None, None]

    def _action_states(self, hidden: Tensor, pictured: int, is_word: Tensor) -> Tensor:
        """The last word's state and those of all empty tokens but the last: each token speaks for the one behind it."""
        last = (pictured + is_word.sum(1) - 1)[:, None, None].expand(-1, 1, hidden.shape[2])
        first_empty = pictured + is_word.shape[1]
        return torch.cat([hidden.gather(1, last), hidden[:, first_empty : first_empty + self.slots - 1]], dim=1)


class Table(nn.Module):
    """The bounds of every un-normalisation key as rows, picked by index; float32 whatever the network is."""

    def __init__(self, bounds: tuple[Bounds, ...]) -> None:
        super().__init__()
        spans = [np.asarray(one.high) - np.asarray(one.low) + one.epsilon for one in bounds]
        self.register_buffer("low", torch.tensor([one.low for one in bounds]), persistent=False)
        self.register_buffer("span", torch.tensor(np.stack(spans), dtype=torch.float32), persistent=False)
        self.register_buffer("mask", torch.tensor([one.mask for one in bounds]), persistent=False)

    def unnormalise(self, values: Tensor, index: Tensor) -> Tensor:
        """(B, horizon, dims) in about [−1, 1] and (B, 1) int64 → physical units."""
        low, span, mask = (row[:, None] for row in self._rows(index))
        return torch.where(mask, 0.5 * (values + 1.0) * span + low, values)

    def normalise(self, values: Tensor, index: Tensor) -> Tensor:
        """(B, dims) in physical units and (B, 1) int64 → [−1, 1]; what lies outside the bounds is clipped, as in training."""
        low, span, mask = self._rows(index)
        return torch.where(mask, 2.0 * (values - low) / span - 1.0, values).clamp(-1.0, 1.0)

    def _rows(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low, span, mask = (table.index_select(0, index[:, 0]) for table in (self.low, self.span, self.mask))
        return low, span, mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """What scales actions and, where the policy takes one, the robot state."""

    action: Table
    state: Table | None


class Served(nn.Module):
    """The graph: its parameters are the wire's tensor names, and those a policy does not take stay None."""

    def __init__(self, oft: Oft, tables: Tables) -> None:
        super().__init__()
        pictures = oft.vla.config.pictures
        self.oft, self.action_table, self.state_table = oft, tables.action, tables.state
        self.pixels = Normalise(pictures.means, pictures.stds)

    def forward(
        self,
        *,
        image: Tensor,
        instruction_ids: Tensor,
        unnorm_index: Tensor,
        image_2: Tensor | None = None,
        image_3: Tensor | None = None,
        image_4: Tensor | None = None,
        state: Tensor | None = None,
    ) -> Tensor:
        """(B, H, W, 3) uint8 pictures, (B, S) and (B, 1) int64, (B, P) float32 → (B, horizon, dims) float32 in physical units."""
        pictures = [self.pixels(one) for one in (image, image_2, image_3, image_4) if one is not None]
        scaled = None if state is None or self.state_table is None else self.state_table.normalise(state, unnorm_index)
        actions = self.oft(torch.cat(pictures, dim=1), instruction_ids, scaled)
        return self.action_table.unnormalise(actions.to(torch.float32), unnorm_index)
