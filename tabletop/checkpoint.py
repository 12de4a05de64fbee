"""Trained weights on disk: one safetensors file beside the words it knows and the log of the run that made it.

It knows where they stand in the repository and nothing of how they are trained or exported.
"""

import json
from pathlib import Path

import safetensors.torch
import torch

from tabletop.instructions import TOKENIZER_FILE, UNKNOWN_ID, vocabulary
from tabletop.network import TabletopPolicy

FOLDER = Path(__file__).parent / "weights"
WEIGHTS_FILE = "policy.safetensors"
_WORDS = "text.words.weight"


def save(network: TabletopPolicy, folder: Path) -> None:
    """Writes the weights into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    half = folder / f".{WEIGHTS_FILE}.half"
    half.write_bytes(safetensors.torch.save({name: value.contiguous() for name, value in network.state_dict().items()}))
    half.rename(folder / WEIGHTS_FILE)


def load(folder: Path = FOLDER) -> TabletopPolicy:
    """The trained policy, ready to answer, with as many words as it was trained with. Raises if the file does not fit."""
    found = safetensors.torch.load_file(folder / WEIGHTS_FILE)
    network = TabletopPolicy(words=len(found[_WORDS]) if _WORDS in found else None)
    network.load_state_dict(found)
    return network.eval()


@torch.no_grad()
def start_from(network: TabletopPolicy, folder: Path) -> None:
    """Gives `network` the weights in `folder`, word by word; a word that is new there begins as the unknown one did."""
    found = safetensors.torch.load_file(folder / WEIGHTS_FILE)
    known = json.loads((folder / TOKENIZER_FILE).read_text())["model"]["vocab"]
    rows = [known.get(word, UNKNOWN_ID) for word in vocabulary()]
    noise = 0.02 * torch.randn(len(rows), found[_WORDS].shape[1])
    is_new = torch.tensor([word not in known for word in vocabulary()])[:, None]
    found[_WORDS] = found[_WORDS][rows] + noise * is_new
    network.load_state_dict(found)
