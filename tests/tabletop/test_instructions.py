"""The language of the policy: what training says, what it never says, and the file that travels with the bundle."""

from pathlib import Path

import numpy as np
import pytest

from export.contract.tokenize import InstructionTokenizer
from tabletop.instructions import (
    HELD_OUT,
    SPEC,
    UNKNOWN_ID,
    UnknownTask,
    free_words,
    held_out_instruction,
    plain_instruction,
    training_instruction,
    understood,
    vocabulary,
    write_tokenizer,
)
from tabletop.things import COLOURS
from tabletop.verbs import ALL_TASKS, Task, Verb


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> InstructionTokenizer:
    """The grammar's own."""
    folder = tmp_path_factory.mktemp("words")
    write_tokenizer(folder)
    return InstructionTokenizer(folder, SPEC)


def test_the_same_grammar_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_tokenizer(tmp_path).read_bytes()
    assert write_tokenizer(tmp_path).read_bytes() == first


def test_every_training_sentence_is_in_the_vocabulary_and_names_one_colour(tokenizer: InstructionTokenizer) -> None:
    random, words = np.random.default_rng(3), vocabulary()
    for task in ALL_TASKS * 20:
        ids = tokenizer.ids(training_instruction(task, random)).tolist()
        assert UNKNOWN_ID not in ids
        assert [colour for colour in COLOURS if words[colour] in ids] == ([] if task.thing == "bowl" else [task.colour])


def test_the_example_of_the_api_needs_no_article() -> None:
    assert plain_instruction(Task(verb=Verb.PICK_UP, thing="red cube")) == "pick up red cube"


@pytest.mark.parametrize("verb", list(Verb))
def test_held_out_sentences_use_words_or_forms_that_training_never_uses(verb: Verb, tokenizer: InstructionTokenizer) -> None:
    unseen = [UNKNOWN_ID in tokenizer.ids(form.format(thing="red cube")) for form in HELD_OUT[verb]]
    assert sum(unseen) >= len(unseen) - 2


def test_the_words_of_the_commands_are_understood() -> None:
    random = np.random.default_rng(4)
    for task in ALL_TASKS:
        assert understood(plain_instruction(task)) == task
        assert understood(held_out_instruction(task, random)) == task
    assert understood("Grab the green BLOCK, please").thing == "green cube"
    assert understood("put the yellow can into that bowl") == Task(verb=Verb.PUT_IN_BOWL, thing="yellow cylinder")


@pytest.mark.parametrize("sentence", ["", "dance", "pick up the pink cube", "pick up the red and the blue cube", "the bowl"])
def test_a_sentence_that_asks_for_no_task_says_which_there_are(sentence: str) -> None:
    with pytest.raises(UnknownTask, match="say one of “pick up red cube”") as unknown:
        understood(sentence)
    assert "\n" not in str(unknown.value)


def test_no_word_that_decides_may_be_lost() -> None:
    deciding = {*COLOURS, "bowl", "in", "into", "pick", "move", "put", "hover", "grab"}
    assert not deciding & free_words()
    assert {"cube", "the", "please"} <= free_words()
