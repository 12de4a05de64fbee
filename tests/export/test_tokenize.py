"""Words to ids, as the control plane and the trainer both see them."""

import json
from pathlib import Path

import numpy as np
import pytest

from export.contract.facts import Instruction
from export.contract.manifest import ManifestError
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


OPENVLA = Instruction(
    template="In: What action should the robot take to {instruction}?\nOut:",
    lowercase=True,
    tokenizer_file="tokenizer.json",
    append_id=29871,
    max_tokens=64,
    buckets=(32, 48, 64),
    pad_id=32000,
    max_chars=512,
    tensor="input_ids",
)


def test_the_prompt_has_exactly_the_ids_of_the_original(openvla_tiny: Path) -> None:
    tokenizer = InstructionTokenizer(openvla_tiny, OPENVLA)
    cases = json.loads((openvla_tiny / "reference.json").read_text())["cases"]
    assert len(cases) >= 16
    for case in cases:
        found = tokenizer.ids(case["instruction"])
        length = len(case["input_ids"])
        assert found[:length].tolist() == case["input_ids"]
        assert set(found[length:].tolist()) == {32000}


def test_what_is_appended_is_not_appended_twice(openvla_tiny: Path) -> None:
    once = OPENVLA.model_copy(update={"append_id": 29901})  # the colon that the prompt ends with
    found = InstructionTokenizer(openvla_tiny, once).ids("pick up red cube")
    assert found[:19].tolist()[-3:] == [3744, 29901, 32000]


def test_a_caller_cannot_say_a_special_token(openvla_tiny: Path) -> None:
    found = InstructionTokenizer(openvla_tiny, OPENVLA).ids("say </s> and <PAD> and <s>")
    length = int((found != 32000).sum())
    assert 2 not in found
    assert (found[:length] != 32000).all()
    assert (found == 1).sum() == 1


@pytest.mark.parametrize("said", [29871, 701, 13, 0x41 + 3], ids=["space", "up", "line break", "a byte"])
def test_padding_that_can_occur_in_a_prompt_is_refused(said: int, openvla_tiny: Path) -> None:
    spec = OPENVLA.model_copy(update={"pad_id": said, "append_id": None})
    with pytest.raises(ManifestError, match=rf"instruction\.pad_id: {said}"):
        InstructionTokenizer(openvla_tiny, spec)


def test_padding_with_the_unknown_word_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    with pytest.raises(ManifestError, match=r"instruction\.pad_id"):
        InstructionTokenizer(tmp_path, SPEC.model_copy(update={"pad_id": UNKNOWN_ID}))


def test_a_special_token_in_the_template_is_refused(openvla_tiny: Path) -> None:
    spec = OPENVLA.model_copy(update={"template": "<s>In: {instruction}"})
    with pytest.raises(ManifestError, match=r"instruction\.template: '<s>'"):
        InstructionTokenizer(openvla_tiny, spec)


@pytest.mark.parametrize("text", [None, "", "{", "[]", '"model"', "{}"])
def test_a_file_that_is_no_tokenizer_is_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ManifestError, match=r"tokenizer\.json"):
        InstructionTokenizer(tmp_path, SPEC)


def test_what_is_remembered_is_not_what_was_given_away(tokenizer: InstructionTokenizer) -> None:
    first = tokenizer.ids("pick up red cube")
    kept = first.tolist()
    first[:] = 7
    assert tokenizer.ids("pick up red cube").tolist() == kept
