"""Words to ids, as the control plane and the trainer both see them."""

from pathlib import Path

import numpy as np
import pytest

from export.contract.facts import Instruction
from export.contract.tokenize import InstructionTokenizer, InstructionTooLong
from tabletop.instructions import PAD_ID, SPEC, UNKNOWN_ID, vocabulary, write_tokenizer


@pytest.fixture
def tokenizer(tmp_path: Path) -> InstructionTokenizer:
    write_tokenizer(tmp_path)
    return InstructionTokenizer(tmp_path, SPEC)


def test_ids_are_the_words_padded_to_the_fixed_length(tokenizer: InstructionTokenizer) -> None:
    found = tokenizer.ids("pick up red cube")
    words = vocabulary()
    assert found.dtype == np.int64
    assert found.shape == (SPEC.max_tokens,)
    assert found[:4].tolist() == [words[word] for word in ("pick", "up", "red", "cube")]
    assert set(found[4:].tolist()) == {PAD_ID}


def test_case_and_punctuation_do_not_hide_a_word(tokenizer: InstructionTokenizer) -> None:
    assert np.array_equal(tokenizer.ids("PICK up Red cube!")[:4], tokenizer.ids("pick up red cube")[:4])


def test_an_unseen_word_is_unknown_rather_than_an_error(tokenizer: InstructionTokenizer) -> None:
    assert tokenizer.ids("pick up zebra")[2] == UNKNOWN_ID


def test_the_template_surrounds_the_instruction(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    spec = SPEC.model_copy(update={"template": "please {instruction} ."})
    found = InstructionTokenizer(tmp_path, Instruction.model_validate(spec.model_dump())).ids("grab {red} cube")
    words = vocabulary()
    assert found[0] == words["please"]
    assert words["red"] in found


def test_too_many_words_are_refused_not_cut(tokenizer: InstructionTokenizer) -> None:
    with pytest.raises(InstructionTooLong) as refused:
        tokenizer.ids("red " * (SPEC.max_tokens + 1))
    assert (refused.value.length, refused.value.limit, refused.value.unit) == (SPEC.max_tokens + 1, SPEC.max_tokens, "tokens")


def test_too_many_characters_are_refused_before_any_work(tokenizer: InstructionTokenizer) -> None:
    with pytest.raises(InstructionTooLong) as refused:
        tokenizer.ids("x" * 10_000)
    assert refused.value.unit == "characters"


def test_the_same_grammar_writes_the_same_bytes(tmp_path: Path) -> None:
    first = write_tokenizer(tmp_path).read_bytes()
    assert write_tokenizer(tmp_path).read_bytes() == first
