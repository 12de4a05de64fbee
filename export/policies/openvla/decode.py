"""Greedy decoding of action tokens: `generate` as the original does it, and the three graphs that are served.

`Continue` is one graph for the prompt and for every further token, so its weights are stored once. The served runner,
`export/python_backend/openvla_decode.py`, runs the three with memory that it owns. Called by `policy`; knows no files.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from export.policies.openvla.network import OpenVla, join, see
from export.policies.openvla.towers import Normalise


class Prompt(nn.Module):
    """Pictures and words become the sequence that Llama reads, and which of its places are real."""

    def __init__(self, network: OpenVla, *, pad_id: int) -> None:
        super().__init__()
        self.pad_id = pad_id
        self.vision_backbone, self.projector = network.vision_backbone, network.projector
        self.embed_tokens = network.language_model.model.embed_tokens
        self.normalise = Normalise(network.config.pictures.means, network.config.pictures.stds)

    def forward(self, image: Tensor, instruction_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, 3) uint8, (B, S) int64 padded on the right → (B, patches + S, hidden) and is_real (B, patches + S) bool."""
        patches = see(self.vision_backbone, self.projector, self.normalise(image))
        embeddings = join(self.embed_tokens(instruction_ids), patches)
        is_word = instruction_ids != self.pad_id
        bos_and_patches = embeddings.shape[1] - is_word.shape[1] + 1
        always = torch.ones_like(embeddings[:, :bos_and_patches, 0], dtype=torch.bool)
        return embeddings, torch.cat([always, is_word[:, 1:]], dim=1)


class Continue(nn.Module):
    """Llama over new places and what it remembers of earlier ones, and the most likely next token of the whole vocabulary."""

    def __init__(self, network: OpenVla) -> None:
        super().__init__()
        self.llama = network.language_model

    def forward(
        self, embeddings: Tensor, is_real: Tensor, start: Tensor, past: Tensor, is_real_past: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Reads (B, Q, hidden) embeddings whose first Q' `is_real` (B, Q) places count, at positions from `start` (B,) on.

        `past` (B, layers, 2, groups, T, head_dim) with `is_real_past` (B, T): places that are not real are never looked at; they
        hold zeros. Returns the token after the last real place (B,) int64, its log-probability and the entropy of all, both (B,)
        float32 in nats, the token's embedding (B, 1, hidden), and the new keys and values, shaped like `past` with Q places.
        """
        earlier, new = past.shape[4], embeddings.shape[1]
        places = torch.arange(new, device=start.device)
        is_before = torch.cat([places.new_ones(new, earlier, dtype=torch.bool), places[None, :] <= places[:, None]], dim=1)
        mask = is_before[None, None] & torch.cat([is_real_past, is_real], dim=1)[:, None, None]
        hidden, present = self.llama(embeddings, positions=start[:, None] + places, mask=mask, past=past)
        last = is_real.to(torch.int64).sum(dim=1) - 1
        chosen = torch.gather(hidden, 1, last[:, None, None].expand(-1, 1, hidden.shape[2]))[:, 0]
        token, logprob, entropy = greedy(self.llama.logits(chosen))
        return token, logprob, entropy, self.llama.embed(token[:, None]), present


class Act(nn.Module):
    """Action tokens become physical units: one row of a table per un-normalisation key, dimension and bin."""

    def __init__(self, table: Tensor, *, action_vocab: int, n_action_bins: int) -> None:
        """`table`: (keys, n, n_action_bins − 1) float32, from `actions.table`."""
        super().__init__()
        self.register_buffer("table", table)
        self.action_vocab, self.n_action_bins = action_vocab, n_action_bins

    def forward(self, tokens: Tensor, unnorm_index: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n) int64 ids, (B, 1) int64 key → action (B, 1, n) float32, is_action_token (B, n) uint8.

        An id that is no action token lands in the nearest end bin, as in the original, and is flagged by a 0.
        """
        bins = torch.clamp(self.action_vocab - tokens - 1, 0, self.n_action_bins - 2)
        action = torch.gather(self.table[unnorm_index[:, 0]], 2, bins[:, :, None])[:, :, 0]
        is_action = (tokens < self.action_vocab) & (tokens >= self.action_vocab - self.n_action_bins)
        return action[:, None], is_action.to(torch.uint8)


def greedy(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, vocabulary) → the most likely id, its log-probability, and the entropy of all, in float32."""
    logs = torch.log_softmax(logits.to(torch.float32), dim=-1)
    token = logits.argmax(dim=-1)
    return token, torch.gather(logs, 1, token[:, None])[:, 0], -(logs.exp() * logs).sum(dim=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """Ids, log-probabilities and entropies of one request's tokens, each (n,)."""

    tokens: Tensor
    logprobs: Tensor
    entropies: Tensor


@torch.inference_mode()
def generate(network: OpenVla, image: Tensor, ids: Tensor, *, count: int) -> Decoded:
    """The original's decoding of one picture (H, W, 3) uint8 and one prompt (S,) without padding: the truth for every graph."""
    llama = network.language_model
    normalise = Normalise(network.config.pictures.means, network.config.pictures.stds)
    embeddings, past, found = network.embeddings(normalise(image[None]), ids[None]), None, []
    for _ in range(count):
        earlier, new = 0 if past is None else past.shape[4], embeddings.shape[1]
        positions = torch.arange(earlier, earlier + new)[None]
        mask = torch.ones(new, earlier + new, dtype=torch.bool).tril(earlier)
        hidden, present = llama(embeddings, positions=positions, mask=mask, past=past)
        past = present if past is None else torch.cat([past, present], dim=4)
        found.append(greedy(llama.logits(hidden[:, -1])))
        embeddings = llama.embed(found[-1][0][:, None])
    tokens, logprobs, entropies = (torch.cat(values) for values in zip(*found, strict=True))
    return Decoded(tokens=tokens, logprobs=logprobs, entropies=entropies)
