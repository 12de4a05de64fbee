"""Greedy decoding of action tokens as three graphs with static shapes: read the prompt, continue it by one token, act.

`Continue` is one graph for both the prompt (no past) and each further token (one token, all of the past): its weights are stored once.
`Decode` runs the three in PyTorch as the served runner does. They know no files and no runtime. Called by `policy` and, for the meaning
of inputs and outputs, mirrored by `export/python_backend/decode.py`.
"""

import torch
from torch import Tensor, nn

from export.policies.openvla.network import OpenVla
from export.policies.openvla.towers import Normalise


class Prompt(nn.Module):
    """Pictures and words become the sequence that Llama reads, and which of its places are real."""

    def __init__(self, network: OpenVla, *, pad_id: int) -> None:
        super().__init__()
        self.network, self.pad_id = network, pad_id
        self.normalise = Normalise(network.config.pictures.means, network.config.pictures.stds)

    def forward(self, image: Tensor, instruction_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, 3) uint8 and (B, S) int64 padded on the right → embeddings (B, patches + S, hidden), is_real (B, patches + S)."""
        embeddings = self.network.embeddings(self.normalise(image), instruction_ids)
        is_word = instruction_ids != self.pad_id
        always = torch.ones_like(embeddings[:, : embeddings.shape[1] - is_word.shape[1] + 1, 0], dtype=torch.bool)
        return embeddings, torch.cat([always, is_word[:, 1:]], dim=1)


class Continue(nn.Module):
    """Llama over new embeddings and what it remembers, and the most likely next token of all in the vocabulary."""

    def __init__(self, network: OpenVla) -> None:
        super().__init__()
        self.llama = network.language_model

    def forward(
        self, embeddings: Tensor, positions: Tensor, is_real: Tensor, last: Tensor, past: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Embeddings (B, Q, hidden) at `positions` (B, Q), `past` (layers, 2, B, groups, T, head_dim), `is_real` (B, T + Q) bool.

        `last` (B,) int64 says which of the Q places predicts. Returns the token (B,) int64, its log-probability and the entropy of all
        (B,) float32 in nats, the token's embedding (B, 1, hidden), and the new keys and values (layers, 2, B, groups, Q, head_dim).
        """
        earlier, new = past.shape[4], embeddings.shape[1]
        places = torch.arange(earlier + new, device=embeddings.device)
        is_earlier = places[None, :] <= torch.arange(new, device=embeddings.device)[:, None] + earlier
        mask = is_earlier[None, None] & is_real[:, None, None]
        hidden, present = self.llama(embeddings, positions=positions, mask=mask, past=past)
        chosen = torch.gather(hidden, 1, last[:, None, None].expand(-1, 1, hidden.shape[2]))[:, 0]
        token, logprob, entropy = greedy(self.llama.logits(chosen))
        return token, logprob, entropy, self.llama.embed(token[:, None]), present


def greedy(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, vocabulary) → the most likely id, its log-probability, and the entropy of all, in float32."""
    logs = torch.log_softmax(logits.to(torch.float32), dim=-1)
    token = logits.argmax(dim=-1)
    logprob = torch.gather(logs, 1, token[:, None])[:, 0]
    return token, logprob, -(logs.exp() * logs).sum(dim=-1)
