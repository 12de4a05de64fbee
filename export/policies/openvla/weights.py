"""Weights in the published layout become a network's parameters: memory-mapped, no second copy, every name and shape checked.

Reads `model.safetensors.index.json` with its shards, or one `model.safetensors`. It knows no architecture: the network on the
meta device says which names and shapes it wants. Called by every family whose checkpoints are safetensors.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from export.policies.adapter import CheckpointError
from export.policies.openvla.config import read_json
from export.progress import counted

INDEX_FILE, SINGLE_FILE = "model.safetensors.index.json", "model.safetensors"
FLOATS = frozenset({torch.float32, torch.float16, torch.bfloat16})
_SHOWN = 3
_DERIVED = ".rotary_emb.inv_freq"  # older files store what every reader computes


def load(network: nn.Module, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Fills `network` (built on the meta device) with the checkpoint's tensors, as stored or converted to `dtype`.

    Raises CheckpointError, one line, for missing or damaged files, missing, unexpected, misshapen or non-finite tensors.
    """
    expected = network.state_dict()
    with ExitStack() as stack:
        files = {path: _opened(path, stack) for path in _shards(folder)}
        places = {name: file for file in files.values() for name in file.keys() if not name.endswith(_DERIVED)}  # noqa: SIM118 -- no mapping
        _check_names(expected.keys(), places.keys(), folder)
        found = {}
        with counted("reading weights", len(expected)) as tick:
            for name, wanted in expected.items():
                found[name] = _tensor(places[name], name, wanted.shape, dtype=dtype)
                tick()
    network.load_state_dict(found, assign=True, strict=True)
    network.requires_grad_(requires_grad=False)


def _shards(folder: Path) -> list[Path]:
    if (folder / INDEX_FILE).exists():
        names = read_json(folder / INDEX_FILE).get("weight_map")
        if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
            raise CheckpointError(f"{folder / INDEX_FILE}: has no weight_map; download it again")
        shards = [folder / Path(name).name for name in sorted(set(names.values()))]
    else:
        shards = [folder / SINGLE_FILE]
    missing = [path.name for path in shards if not path.exists()]
    if missing:
        raise CheckpointError(f"{folder}: {_some(missing)} missing; download the checkpoint again (safetensors, not .bin)")
    return shards


def _opened(path: Path, stack: ExitStack) -> safe_open:
    try:
        return stack.enter_context(safe_open(path, framework="pt"))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{path}: truncated or damaged ({_line(error)}); download this file again") from None


def _check_names(expected: Iterable[str], found: Iterable[str], folder: Path) -> None:
    missing, unexpected = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    faults = [f"lacks {_some(missing)}"] * bool(missing) + [f"has unknown {_some(unexpected)}"] * bool(unexpected)
    if faults:
        raise CheckpointError(f"{folder}: the checkpoint {' and '.join(faults)}; its config.json describes another network")


def _tensor(file: safe_open, name: str, shape: torch.Size, *, dtype: torch.dtype | None) -> Tensor:
    try:
        tensor: Tensor = file.get_tensor(name)
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{name}: cannot be read ({_line(error)}); download the checkpoint again") from None
    if tensor.shape != shape:
        raise CheckpointError(
            f"{name}: has shape {tuple(tensor.shape)}, config.json makes it {tuple(shape)}; they do not belong together"
        )
    if tensor.dtype not in FLOATS:
        raise CheckpointError(f"{name}: is {tensor.dtype}; only float32, float16 and bfloat16 weights are supported")
    if not all(torch.isfinite(end) for end in torch.aminmax(tensor)):  # which keeps NaN, and makes no copy
        raise CheckpointError(f"{name}: holds NaN or infinity; the checkpoint is damaged or its training diverged, take another")
    return tensor if dtype is None else tensor.to(dtype)


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0]
