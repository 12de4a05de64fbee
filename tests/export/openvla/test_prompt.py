"""A checkpoint is asked in its own words, and a tokenizer that is not its own is refused before it can shift actions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from export.contract.tokenize import InstructionTokenizer
from export.policies.adapter import CheckpointError
from export.policies.openvla.config import read_config
from export.policies.openvla.prompt import read_instruction
from tests.export.openvla_checkpoint import PAD, Shape, write_checkpoint

pytestmark = pytest.mark.export


def _instruction(folder: Path) -> Any:
    return read_instruction(folder, read_config(folder), tensor="words")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint", Shape())


def _configured(folder: Path, **changes: Any) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def test_the_reference_prompts_get_the_reference_ids(openvla_tiny: Path) -> None:
    cases = json.loads((openvla_tiny / "reference.json").read_text())["cases"]
    tokenizer = InstructionTokenizer(openvla_tiny, _instruction(openvla_tiny))
    for case in cases:
        ids = tokenizer.ids(case["instruction"])
        assert ids[ids != PAD].tolist() == case["input_ids"]


def test_a_prompt_begins_with_bos_and_ends_with_the_empty_token(folder: Path) -> None:
    found = InstructionTokenizer(folder, _instruction(folder)).ids("wipe")
    words = found[found != PAD]
    assert (words[0], words[-1]) == (1, 29871)
    assert np.array_equal(found[: len(words)], words)


def test_the_first_release_is_asked_as_a_chat(folder: Path, tmp_path: Path) -> None:
    assert _instruction(folder).template == "In: What action should the robot take to {instruction}?\nOut:"
    chat = _instruction(_configured(folder, llm_backbone_id="vicuna-v15-7b")).template
    assert chat.startswith("A chat between a curious user and an artificial intelligence assistant. The assistant gives")
    assert chat.endswith("questions. USER: What action should the robot take to {instruction}? ASSISTANT:")
    named = write_checkpoint(tmp_path / "openvla-v01-7b", Shape())
    assert _instruction(named).template == chat


def test_buckets_leave_room_for_an_instruction(folder: Path) -> None:
    instruction = _instruction(folder)
    assert instruction.buckets == tuple(sorted(instruction.buckets))
    assert instruction.max_tokens == instruction.buckets[-1]
    empty = InstructionTokenizer(folder, instruction).ids("")
    assert int((empty != PAD).sum()) + 8 <= instruction.buckets[0]


def test_the_padded_vocabulary_is_not_taken_for_the_tokenizer_s(folder: Path) -> None:
    """With 64 too many, every action would be shifted by 64 bins, silently."""
    with pytest.raises(CheckpointError, match=r"32064 − pad_to_multiple_of 1 = 32063, the tokenizer has 32000 pieces"):
        _instruction(_configured(folder, pad_to_multiple_of=1))


def test_another_vocabulary_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="action ids would be shifted"):
        _instruction(_configured(folder, text_config={"vocab_size": 50304}))


def test_another_tokenizer_of_the_same_size_is_refused(folder: Path) -> None:
    raw = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = raw["model"]["vocab"]
    vocabulary["▁"], vocabulary["!"] = vocabulary["!"], vocabulary["▁"]
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match="not Llama's tokenizer"):
        _instruction(folder)


def test_a_tokenizer_without_bos_is_refused(folder: Path) -> None:
    raw = json.loads((folder / "tokenizer.json").read_text())
    raw["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match="no <s> first"):
        _instruction(folder)


def test_a_missing_tokenizer_says_how_to_get_it(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="save_pretrained"):
        _instruction(folder)


@pytest.mark.parametrize("text", ["{}", "{", ""])
def test_a_damaged_tokenizer_is_refused(folder: Path, text: str) -> None:
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointError, match="download it again"):
        _instruction(folder)


@pytest.mark.parametrize(
    ("changes", "said"), [({"pad_token_id": 5}, "pad_token_id 5"), ({"n_action_bins": 4000}, "reaches into")]
)
def test_ids_that_mean_words_mean_nothing_else(folder: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        _instruction(_configured(folder, **changes))


def test_the_reference_tokenizer_is_llama_s(openvla_tiny: Path) -> None:
    tokenizer = Tokenizer.from_file(str(openvla_tiny / "tokenizer.json"))
    assert (tokenizer.id_to_token(29871), tokenizer.get_vocab_size(with_added_tokens=False)) == ("▁", 32000)
