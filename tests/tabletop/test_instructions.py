"""The language of the policy: what training says, what it never says, and the file that travels with the bundle."""

from pathlib import Path

import numpy as np

from export.contract.tokenize import InstructionTokenizer
from tabletop.instructions import (
    COLOURS,
    HELD_OUT,
    SPEC,
    TOKENIZER_FILE,
    UNKNOWN_ID,
    held_out_instruction,
    plain_instruction,
    training_instruction,
    vocabulary,
    write_tokenizer,
)

WEIGHTS = Path("tabletop/weights")


def test_the_committed_tokenizer_is_the_grammar(tmp_path: Path) -> None:
    assert (WEIGHTS / TOKENIZER_FILE).read_bytes() == write_tokenizer(tmp_path).read_bytes()


def test_every_training_sentence_is_in_the_vocabulary_and_names_one_colour() -> None:
    tokenizer, random, words = InstructionTokenizer(WEIGHTS, SPEC), np.random.default_rng(3), vocabulary()
    for colour in COLOURS * 100:
        ids = tokenizer.ids(training_instruction(colour, random)).tolist()
        assert UNKNOWN_ID not in ids
        assert [other for other in COLOURS if words[other] in ids] == [colour]


def test_the_example_of_the_api_needs_no_article() -> None:
    assert plain_instruction("red") == "pick up red cube"


def test_held_out_sentences_use_words_that_training_never_uses() -> None:
    tokenizer = InstructionTokenizer(WEIGHTS, SPEC)
    unseen = [UNKNOWN_ID in tokenizer.ids(form.format(colour="red")) for form in HELD_OUT]
    assert sum(unseen) >= len(HELD_OUT) - 2


def test_held_out_sentences_still_name_their_colour() -> None:
    tokenizer, random, words = InstructionTokenizer(WEIGHTS, SPEC), np.random.default_rng(4), vocabulary()
    for colour in COLOURS * 10:
        assert words[colour] in tokenizer.ids(held_out_instruction(colour, random))
