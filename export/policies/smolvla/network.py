"""SmolVLA at inference: pictures, words and state are read once, then noise flows into a chunk of actions in fixed steps.

Our own plain PyTorch under LeRobot's parameter names. Every step reuses the keys and values of the prefix, and those that the
expert makes of them; the steps are unrolled. Noise is an input. It reads no files and knows no scaling: `policy.py` adds both.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.policies.smolvla.decoder import DecoderLayer, DecoderShape, RmsNorm, Turn, veil
from export.policies.smolvla.vision import Connector, VisionShape, VisionTower


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How an expert's layer takes part: it reads along with language layer `index`, or is not there (None).

    A joint layer attends to the prefix and to the actions before it; the others only to the prefix, by projections of their own.
    """

    expert: int | None
    is_joint: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Everything that the weights' shapes depend on. `readings` has one entry per language layer."""

    vision: VisionShape
    language: DecoderShape
    expert: DecoderShape
    readings: tuple[Reading, ...]
    vocabulary: int
    state_size: int
    action_size: int
    chunk: int
    steps: int
    periods: tuple[float, float]
    picture_marks: tuple[int, int] | None  # ids of <fake_token_around_image> and <global-img>, where they surround pictures
    absent_pictures: int  # cameras that training had and the robot has not


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """What is computed once: keys and values per language layer, and the positions and veils that all flow steps share.

    In a joint layer the actions stand `after` the prefix and see it and their past; in the others they stand `alone` and see it.
    """

    memory: tuple[tuple[Tensor, Tensor] | None, ...]
    after: Turn
    alone: Turn
    joint_veil: Tensor
    alone_veil: Tensor


class _Vlm(nn.Module):
    """Language model and eyes, grouped as transformers groups them."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.vision_model = VisionTower(layout.vision)
        self.connector = Connector(layout.vision, layout.language.width)
        self.text_model = nn.Module()
        self.text_model.embed_tokens = nn.Embedding(layout.vocabulary, layout.language.width)
        self.text_model.layers = nn.ModuleList([DecoderLayer(layout.language) for _ in layout.readings])


class _Expert(nn.Module):
    """The layers that act."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        here = [reading for reading in layout.readings if reading.expert is not None]
        memory = layout.language.key_heads * layout.language.head
        self.layers = nn.ModuleList(
            [DecoderLayer(layout.expert if reading.is_joint else replace(layout.expert, memory=memory)) for reading in here]
        )
        self.norm = RmsNorm(layout.expert.width, layout.expert.epsilon)


class _Both(nn.Module):
    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.vlm = nn.Module()
        self.vlm.model = _Vlm(layout)
        self.lm_expert = _Expert(layout)


class FlowMatching(nn.Module):
    """Parameter names are those under `model.` in a checkpoint."""

    times: Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.groups = layout.language.heads // layout.language.key_heads
        width = layout.expert.width
        self.vlm_with_expert = _Both(layout)
        self.state_proj = nn.Linear(layout.state_size, layout.language.width)
        self.action_in_proj = nn.Linear(layout.action_size, width)
        self.action_out_proj = nn.Linear(width, layout.action_size)
        self.action_time_mlp_in, self.action_time_mlp_out = nn.Linear(2 * width, width), nn.Linear(width, width)
        self.register_buffer("times", _time_embeddings(layout), persistent=False)

    def forward(self, pictures: list[Tensor], ids: Tensor, is_word: Tensor, state: Tensor, noise: Tensor) -> Tensor:
        """(B, 3, H, W) in [−1, 1] per camera, (B, T), (B, T) bool, (B, S), (B, chunk, A) → (B, chunk, A)."""
        prefix = self.read(pictures, ids, is_word, state)
        actions, step = noise, -1.0 / self.layout.steps
        for time in self._times_share().unbind():
            actions = actions + step * self.velocity(prefix, actions, time)
        return actions

    def read(self, pictures: list[Tensor], ids: Tensor, is_word: Tensor, state: Tensor) -> Prefix:
        """Pictures and words see each other, the state sees all of them."""
        tokens, is_token = self._embed(pictures, ids, is_word, state)
        is_seen = is_token[:, None, None]
        count = tokens.shape[1]
        is_before_state = torch.arange(count, device=tokens.device) < count - 1
        may_see = veil((is_before_state[None, :] | ~is_before_state[:, None])[None, None] & is_seen, self.groups)
        turn = Turn(is_token.cumsum(1) - 1, self.layout.language.head)
        memory: list[tuple[Tensor, Tensor] | None] = []
        layers = self.vlm_with_expert.vlm.model.text_model.layers
        for index, (layer, reading) in enumerate(zip(layers, self.layout.readings, strict=True)):
            normed = layer.input_layernorm(tokens)
            keys, values = turn(layer.self_attn.keys(normed)), layer.self_attn.values(normed)
            memory.append(self._remembered(reading, keys, values))
            if index < len(layers) - 1:
                queries = layer.self_attn.queries(normed, turn)
                tokens = layer.finish(tokens, layer.self_attn.attend(queries, keys, values, may_see))
        return self._shared(tuple(memory), is_seen, is_token.sum(1, keepdim=True))

    def velocity(self, prefix: Prefix, actions: Tensor, time: Tensor) -> Tensor:
        """Where the actions flow, (B, chunk, A); `time` (D,) is its share of the first layer."""
        tokens = self._embed_actions(actions, time)
        expert = self.vlm_with_expert.lm_expert
        for reading, memory in zip(self.layout.readings, prefix.memory, strict=True):
            if reading.expert is None or memory is None:
                continue
            layer = expert.layers[reading.expert]
            normed, (keys, values) = layer.input_layernorm(tokens), memory
            if reading.is_joint:
                keys = torch.cat((keys, prefix.after(layer.self_attn.keys(normed))), dim=2)
                values = torch.cat((values, layer.self_attn.values(normed)), dim=2)
            queries = layer.self_attn.queries(normed, prefix.after if reading.is_joint else prefix.alone)
            hidden = prefix.joint_veil if reading.is_joint else prefix.alone_veil
            tokens = layer.finish(tokens, layer.self_attn.attend(queries, keys, values, hidden))
        return self.action_out_proj(expert.norm(tokens))

    def _shared(self, memory: tuple[tuple[Tensor, Tensor] | None, ...], is_seen: Tensor, length: Tensor) -> Prefix:
        """`is_seen` (B, 1, 1, P) bool, `length` (B, 1) of the prefix without padding."""
        chunk = self.layout.chunk
        places = torch.arange(chunk, device=length.device)[None]
        is_past = (places.transpose(0, 1) >= places)[None, None].expand(length.shape[0], -1, -1, -1)
        return Prefix(
            memory=memory,
            after=Turn(length + places, self.layout.expert.head),
            alone=Turn(places, self.layout.expert.head),
            joint_veil=veil(torch.cat((is_seen.expand(-1, -1, chunk, -1), is_past), dim=-1), self.groups),
            alone_veil=veil(is_seen, self.groups),
        )

    def _remembered(self, reading: Reading, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor] | None:
        """What the expert's layer attends to at every step."""
        if reading.expert is None:
            return None
        if reading.is_joint:
            return keys, values
        attention = self.vlm_with_expert.lm_expert.layers[reading.expert].self_attn
        return tuple(
            project(part.transpose(1, 2).flatten(2)) for project, part in ((attention.keys, keys), (attention.values, values))
        )

    def _embed(self, pictures: list[Tensor], ids: Tensor, is_word: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of the prefix (B, P, D) and which of them are no padding (B, P)."""
        model = self.vlm_with_expert.vlm.model
        scale = math.sqrt(self.layout.language.width)
        batch = ids.shape[0]
        parts = []
        seen = model.connector(model.vision_model(torch.cat(pictures))) * scale  # all cameras in one pass
        for picture in seen.unflatten(0, (len(pictures), -1)).unbind():
            before, after = self._marks(batch)
            parts += [*before, picture, *after]
        for _ in range(self.layout.absent_pictures):
            before, after = self._marks(batch)
            parts += [*before, *after]
        always = sum(part.shape[1] for part in parts)
        parts += [model.text_model.embed_tokens(ids) * scale, self.state_proj(state)[:, None]]
        is_token = torch.cat((is_word.new_ones(batch, always), is_word, is_word.new_ones(batch, 1)), dim=1)
        return torch.cat(parts, dim=1), is_token

    def _marks(self, batch: int) -> tuple[list[Tensor], list[Tensor]]:
        """Tokens around a picture, where the policy was trained with them; LeRobot does not scale these."""
        if self.layout.picture_marks is None:
            return [], []
        around, whole = self.layout.picture_marks
        table = self.vlm_with_expert.vlm.model.text_model.embed_tokens.weight
        around_row, whole_row = (table[index].expand(batch, 1, -1) for index in (around, whole))
        return [around_row, whole_row], [around_row]

    def _times_share(self) -> Tensor:
        """(steps, D): what each time adds in the first layer, one vector for all actions of all requests."""
        weight = self.action_time_mlp_in.weight[:, self.layout.expert.width :]
        return functional.linear(self.times, weight, self.action_time_mlp_in.bias)

    def _embed_actions(self, actions: Tensor, time: Tensor) -> Tensor:
        """(B, chunk, A), (D,) → (B, chunk, D)."""
        weight = self.action_time_mlp_in.weight[:, : self.layout.expert.width]
        mixed = functional.linear(self.action_in_proj(actions), weight)
        return self.action_time_mlp_out(functional.silu(mixed + time))


def _time_embeddings(layout: Layout) -> Tensor:
    """(steps, width): sines and cosines of the flow's times, 1 first, computed in double precision as LeRobot does."""
    size = layout.expert.width // 2
    shortest, longest = layout.periods
    times = torch.tensor(
        [1.0 + index * (-1.0 / layout.steps) for index in range(layout.steps)], dtype=torch.float32, device="cpu"
    )
    share = torch.linspace(0.0, 1.0, size, dtype=torch.float64, device="cpu")
    angles = (2 * math.pi / (shortest * (longest / shortest) ** share))[None] * times[:, None]
    return torch.cat((angles.sin(), angles.cos()), dim=1).to(torch.float32)
