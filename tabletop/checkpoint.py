"""Trained weights on disk: one safetensors file beside the log of the run that made it.

It knows where they stand in the repository and nothing of how they are trained or exported.
"""

from pathlib import Path

import safetensors.torch

from tabletop.network import TabletopPolicy

FOLDER = Path(__file__).parent / "weights"
WEIGHTS_FILE = "policy.safetensors"


def save(network: TabletopPolicy, folder: Path) -> None:
    """Writes the weights into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS_FILE).write_bytes(
        safetensors.torch.save({name: value.contiguous() for name, value in network.state_dict().items()})
    )


def load(folder: Path = FOLDER) -> TabletopPolicy:
    """The trained policy, ready to answer. Raises if the file does not fit the network."""
    network = TabletopPolicy()
    network.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS_FILE))
    return network.eval()
