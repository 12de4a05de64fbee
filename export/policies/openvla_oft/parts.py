"""The files that an OFT training run writes beside the language model: action head, proprio projector, LoRA adapter.

Finds exactly one of each, refuses what this exporter cannot serve (diffusion, FiLM, an adapter that was not merged) and reads the
pickled state dicts with `weights_only`, so that a checkpoint cannot run code. It knows no robot. Called by `policy`.
"""

import re
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from export.policies.adapter import CheckpointError
from export.policies.openvla.weights import FLOATS, INDEX_FILE, SINGLE_FILE
from export.policies.openvla_oft.heads import ActionHead, ProprioProjector

HEAD, PROJECTOR = "action_head", "proprio_projector"
_REFUSED = {
    "noisy_action_projector": "a diffusion policy; only the L1 regression head is supported",
    "vision_backbone": "a FiLM policy (OFT+), whose vision weights still carry LoRA; train with --use_film False",
}
_STEP = re.compile(r"--(.+)_checkpoint\.pt$")
_DDP = "module."
_REFUSED_BY_TORCH = torch.serialization.pickle.UnpicklingError  # what `weights_only` raises; we unpickle nothing ourselves
State = dict[str, Tensor]
Module = TypeVar("Module", bound=nn.Module)


def refuse_unsupported(folder: Path) -> None:
    """Raises CheckpointError for a checkpoint of another recipe, or one whose LoRA adapter was never merged."""
    for part, what in _REFUSED.items():
        found = _files(folder, part)
        if found:
            raise CheckpointError(f"{folder}: {found[0].name} makes it {what}")
    has_weights = (folder / INDEX_FILE).exists() or (folder / SINGLE_FILE).exists()
    is_adapter = (folder / "lora_adapter").is_dir() or (folder / "adapter_config.json").exists()
    if is_adapter and not has_weights:
        raise CheckpointError(
            f"{folder}: holds a LoRA adapter that is not merged; run openvla-oft's merge_lora_weights_and_save.py on it first"
        )


def read_head(folder: Path) -> State:
    """The action head's tensors. Raises CheckpointError if there is none, more than one, or it is no L1 regression head."""
    file = _only(folder, HEAD)
    if file is None:
        raise CheckpointError(f"{folder}: no {HEAD}--<step>_checkpoint.pt; copy the one that was trained with these weights here")
    found = _read(file)
    if any(name.startswith("noise_predictor.") for name in found):
        raise CheckpointError(f"{file}: is a diffusion head; only the L1 regression head is supported")
    return found


def read_projector(folder: Path) -> State | None:
    """The proprio projector's tensors, or None where the policy was trained without a robot state."""
    file = _only(folder, PROJECTOR)
    if file is None:
        return None
    head = _only(folder, HEAD)
    if head is not None and _step(head) != _step(file):
        raise CheckpointError(f"{folder}: {head.name} and {file.name} are from different steps; keep those of one")
    return _read(file)


def head_of(tensors: State, hidden: int) -> ActionHead:
    """The head with these weights, for a language model of width `hidden`."""
    last, norm = tensors.get("model.fc2.bias"), tensors.get("model.layer_norm1.weight")
    if last is None or norm is None or last.dim() != 1 or norm.dim() != 1:
        raise CheckpointError(
            f"{HEAD}: is no L1 regression head of OpenVLA-OFT; its tensors are {', '.join(sorted(tensors)[:3])}, …"
        )
    if norm.shape[0] != hidden * last.shape[0]:
        raise CheckpointError(
            f"{HEAD}: reads {norm.shape[0]} numbers a step for {last.shape[0]} actions, this language model of width {hidden} "
            f"gives {hidden * last.shape[0]}; it belongs to another checkpoint"
        )
    with torch.device("meta"):
        head = ActionHead(hidden, last.shape[0])
    return _filled(head, tensors, HEAD)


def projector_of(tensors: State, hidden: int) -> ProprioProjector:
    """The projector with these weights, for a language model of width `hidden`."""
    first = tensors.get("fc1.weight")
    if first is None or first.dim() != 2:
        raise CheckpointError(f"{PROJECTOR}: is no proprio projector of OpenVLA-OFT; it lacks fc1.weight")
    with torch.device("meta"):
        projector = ProprioProjector(hidden, first.shape[1])
    return _filled(projector, tensors, PROJECTOR)


def _files(folder: Path, part: str) -> list[Path]:
    """As the original looks for them, but by the start of the name: "noisy_action_projector" is no projector of the state."""
    return sorted(path for path in folder.glob(f"{part}*") if "checkpoint" in path.name and path.is_file())


def _only(folder: Path, part: str) -> Path | None:
    found = _files(folder, part)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise CheckpointError(f"{folder}: {names}; keep the {part} of one step and move the others away")
    return found[0] if found else None


def _step(file: Path) -> str | None:
    step = _STEP.search(file.name)
    return step[1] if step else None


def _read(file: Path) -> State:
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except (_REFUSED_BY_TORCH, RuntimeError, EOFError, OSError, ValueError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{file}: damaged, or not a plain state dict ({line}); download it again") from None
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f"{file}: holds no state dict; download it again")
    return {str(name).removeprefix(_DDP): tensor for name, tensor in found.items()}


def _filled(module: Module, tensors: State, part: str) -> Module:
    expected = module.state_dict()
    wrong = sorted(expected.keys() ^ tensors.keys())
    if wrong:
        raise CheckpointError(f"{part}: lacks or does not know {', '.join(wrong[:3])}; it is of another version or kind")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(f"{part}: {name} has shape {tuple(tensor.shape)}, {tuple(expected[name].shape)} belongs there")
        if tensor.dtype not in FLOATS or not torch.isfinite(tensor).all():
            raise CheckpointError(f"{part}: {name} holds NaN, infinity or no floating-point numbers; take another step's")
    module.load_state_dict(tensors, assign=True, strict=True)
    return module.eval().requires_grad_(requires_grad=False)
