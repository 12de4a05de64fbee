"""How an OpenVLA checkpoint wants to be asked: its prompt, its tokenizer, and the lengths that prompts are padded to.

A tokenizer that is not the checkpoint's own gives wrong actions silently, so ids are checked here. It knows no weights. Called by
`policy` and by the OFT family.
"""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from export.contract.facts import Instruction
from export.contract.manifest import ManifestError
from export.contract.tokenize import InstructionTokenizer
from export.policies.adapter import CheckpointError
from export.policies.openvla.config import CONFIG_FILE, OpenVlaConfig, read_json

TOKENIZER_FILE = "tokenizer.json"
BOS, EMPTY = 1, 29871  # "<s>", and the "▁" that stood between prompt and actions in training
_PIECES = {BOS: "<s>", EMPTY: "▁"}
_TEMPLATE = "In: What action should the robot take to {instruction}?\nOut:"
_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_TEMPLATE_V01 = _SYSTEM + " USER: What action should the robot take to {instruction}? ASSISTANT:"
_MAX_CHARS = 400
_STEP = 8
_ROOM = (8, 16, 32, 64, 112)  # ids for the instruction beyond the template, one bucket each


def read_instruction(folder: Path, config: OpenVlaConfig, *, tensor: str) -> Instruction:
    """The facts, proven on the checkpoint's own tokenizer. Raises CheckpointError."""
    tokenizer = _tokenizer(folder / TOKENIZER_FILE)
    _refuse_other_vocabulary(tokenizer, config, folder)
    template = _TEMPLATE_V01 if _is_v01(folder, read_json(folder / CONFIG_FILE)) else _TEMPLATE
    base = _STEP * -(-(len(tokenizer.encode(template.replace("{instruction}", "")).ids) + 2) // _STEP)
    buckets = tuple(base + room for room in _ROOM)
    instruction = Instruction(
        template=template,
        lowercase=True,
        tokenizer_file=TOKENIZER_FILE,
        append_id=EMPTY,
        max_tokens=buckets[-1],
        buckets=buckets,
        pad_id=config.pad_token_id,
        max_chars=_MAX_CHARS,
        tensor=tensor,
    )
    try:
        InstructionTokenizer(folder, instruction)
    except ManifestError as error:
        raise CheckpointError(f"{folder / TOKENIZER_FILE}: {error}; take the tokenizer that came with the checkpoint") from None
    return instruction


def _tokenizer(path: Path) -> Tokenizer:
    if not path.exists():
        raise CheckpointError(f"{path}: not found; save it with transformers' AutoTokenizer(…, use_fast=True).save_pretrained")
    if "model" not in read_json(path):
        raise CheckpointError(f"{path}: not a tokenizer; download it again")
    return Tokenizer.from_file(str(path))


def _refuse_other_vocabulary(tokenizer: Tokenizer, config: OpenVlaConfig, folder: Path) -> None:
    words, wanted = tokenizer.get_vocab_size(with_added_tokens=False), config.action_vocab
    if words != wanted:
        sum_ = f"vocab_size {config.text.vocab_size} − pad_to_multiple_of {config.pad_to_multiple_of} = {wanted}"
        raise CheckpointError(f"{folder / CONFIG_FILE}: {sum_}, the tokenizer has {words} pieces; action ids would be shifted")
    wrong = [number for number, piece in _PIECES.items() if tokenizer.id_to_token(number) != piece]
    if wrong or tokenizer.encode("a").ids[:1] != [BOS]:
        found = {number: tokenizer.id_to_token(number) for number in _PIECES}
        raise CheckpointError(
            f"{folder / TOKENIZER_FILE}: not Llama's tokenizer ({found}, or no <s> first); take the checkpoint's own"
        )
    if not wanted <= config.pad_token_id < config.text.vocab_size:
        raise CheckpointError(
            f"{folder / CONFIG_FILE}: pad_token_id {config.pad_token_id} must lie between {wanted} and vocab_size"
        )
    if config.n_action_bins > wanted - EMPTY:
        raise CheckpointError(f"{folder / CONFIG_FILE}: n_action_bins {config.n_action_bins} reaches into the words")


def _is_v01(folder: Path, raw: dict[str, Any]) -> bool:
    """The first release speaks Vicuna's chat; the original tells it by "v01" in the path."""
    named = (folder.name, str(raw.get("_name_or_path", "")))
    return str(raw.get("llm_backbone_id", "")).startswith("vicuna") or any("v01" in name for name in named)
