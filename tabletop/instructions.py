"""What can be said to the policy: a small grammar of English requests per task, its vocabulary and its tokenizer file.

Training draws from `training_instruction`; `HELD_OUT` holds sentence forms and words it never sees; `understood` is how a
person's words become a task that can be judged. It knows no images, no robot and no torch. The ids themselves come from
`export.contract.tokenize`, so trainer and control plane cannot differ.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from export.contract.facts import Instruction
from tabletop.things import BOWL, COLOURS
from tabletop.verbs import ALL_TASKS, Task, Verb

TOKENIZER_FILE = "tokenizer.json"
PAD, UNKNOWN = "[PAD]", "[UNK]"
PAD_ID, UNKNOWN_ID = 0, 1
MAX_TOKENS = 24

_PICK_UP = (
    "pick up",
    "pick",
    "grab",
    "lift",
    "lift up",
    "grasp",
    "take",
    "raise",
    "get",
    "fetch",
    "pick up and hold",
    "take hold of",
    "please pick up",
    "please grab",
    "now lift",
    "go to and grab",
    "reach over and pick up",
)
_MOVE_TO = (
    "move to",
    "go to",
    "move over to",
    "go over to",
    "hover over",
    "hover above",
    "move above",
    "approach",
    "reach for",
    "point at",
    "please move to",
    "now go to",
    "stay above",
    "stop over",
)
_PUT = (
    "put",
    "place",
    "drop",
    "move",
    "please put",
    "now put",
    "set",
    "lay",
    "pick up and put",
    "take and drop",
    "lift and place",
)
_INTO = ("in", "into", "inside", "in", "into")
_BOWLS = ("the bowl", "the bowl", "bowl", "that bowl", "the dish")
_ARTICLES = ("", "the", "the", "a", "that", "this", "the small")
PARTICLES = (
    "to",
    "for",
    "at",
    "and",
    "of",
    "up",
)  # stand in one task's phrases and decide nothing: “lift it for me” is no “reach for it”
_ANYTHING = ("object", "piece", "thing", "one")
_NOUNS = {
    "cube": ("cube", "cube", "block", "box", "brick", "cube on the table", "block from the table", *_ANYTHING),
    "cylinder": ("cylinder", "cylinder", "can", "tin", "tube", "can on the table", "cylinder from the table", *_ANYTHING),
}
_ENDINGS = ("", "", "", "", ".", "!", "please", ", please")

HELD_OUT = {
    Verb.PICK_UP: (
        "could you lift the {thing} for me",
        "i would like the {thing} , pick it up",
        "find the {thing} and grasp it",
        "bring your fingers to the {thing} , then lift it",
        "robot , go grab that shiny {thing} right away",
        "the {thing} : raise it",
        "Pick The {thing} Up !",
        "with care , take hold of {thing}",
    ),
    Verb.MOVE_TO: (
        "could you hover just over the {thing} for me",
        "hold your hand above the {thing}",
        "robot , go across to the {thing} right away",
        "approach the shiny {thing} slowly",
        "The {thing} : Move To It !",
    ),
    Verb.PUT_IN_BOWL: (
        "could you drop the {thing} into the bowl for me",
        "i would like the {thing} inside the bowl",
        "the {thing} belongs in the bowl , place it there",
        "find the {thing} and put it in our bowl",
        "The Bowl : Put The {thing} In It !",
    ),
}

SPEC = Instruction(
    template="{instruction}",
    lowercase=True,
    tokenizer_file=TOKENIZER_FILE,
    append_id=None,
    max_tokens=MAX_TOKENS,
    buckets=(MAX_TOKENS,),
    pad_id=PAD_ID,
    max_chars=256,
    tensor="instruction_ids",
)


class UnknownTask(ValueError):  # noqa: N818 -- reads as what it is
    """A sentence that names no task of this table; the text says which there are."""


def training_instruction(task: Task, random: np.random.Generator) -> str:
    """One request of the training grammar: verb, perhaps an article, colour, noun, perhaps an ending."""
    named = _named(task, random)
    match task.verb:
        case Verb.PICK_UP:
            parts = [_pick(_PICK_UP, random), named]
        case Verb.MOVE_TO:
            parts = [_pick(_MOVE_TO, random), named]
        case Verb.PUT_IN_BOWL:
            parts = [_pick(_PUT, random), named, _pick(_INTO, random), _pick(_BOWLS, random)]
    return " ".join(part for part in (*parts, _pick(_ENDINGS, random)) if part)


def plain_instruction(task: Task) -> str:
    """The shortest request, as in the API's own example."""
    match task.verb:
        case Verb.PICK_UP:
            return f"pick up {task.thing}"
        case Verb.MOVE_TO:
            return f"move to {task.thing}"
        case Verb.PUT_IN_BOWL:
            return f"put {task.thing} in the bowl"


def held_out_instruction(task: Task, random: np.random.Generator) -> str:
    """A request in words or an order that training never saw."""
    return _pick(HELD_OUT[task.verb], random).format(thing=task.thing)


def understood(sentence: str) -> Task:
    """The task that a sentence asks for, by the words of the grammar. Raises UnknownTask."""
    words = re.findall(r"\w+", sentence.lower())
    colours, shapes = [colour for colour in COLOURS if colour in words], [_shape_of(word) for word in words]
    verb = _verb_of(words)
    if verb is Verb.MOVE_TO and not colours and BOWL in words:
        return Task(verb=verb, thing=BOWL)
    if verb is None or len(colours) != 1:
        known = ", ".join(f"“{plain_instruction(task)}”" for task in ALL_TASKS if task.thing in {"red cube", BOWL})
        raise UnknownTask(
            f"“{sentence[:80]}” asks for nothing that this robot knows: say one of {known}; colours: {', '.join(COLOURS)}; "
            "also “cylinder” in the place of “cube”"
        )
    shape = next((shape for shape in shapes if shape), "cube")
    return Task(verb=verb, thing=f"{colours[0]} {shape}")


def vocabulary() -> dict[str, int]:
    """Every word and mark of the training grammar; all else is `[UNK]`."""
    nouns = [noun for options in _NOUNS.values() for noun in options]
    phrases = (*_PICK_UP, *_MOVE_TO, *_PUT, *_INTO, *_BOWLS, *_ARTICLES, *nouns, *_ENDINGS, *COLOURS)
    return {PAD: PAD_ID, UNKNOWN: UNKNOWN_ID} | {word: index for index, word in enumerate(sorted(_words(phrases)), start=2)}


def free_words() -> set[str]:
    """The words of which a sentence may lose any and still asks for the same: nouns, articles, endings."""
    nouns = [noun for options in _NOUNS.values() for noun in options]
    deciding = _words((*_PICK_UP, *_MOVE_TO, *_PUT, *_INTO, *_BOWLS, *COLOURS)) - {"the", "that", "please"}
    return _words((*_ARTICLES, *nouns, *_ENDINGS)) - deciding


def write_tokenizer(folder: Path) -> Path:
    """Writes `folder/tokenizer.json` from the grammar; the same grammar gives the same bytes."""
    tokenizer = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path = folder / TOKENIZER_FILE
    tokenizer.save(str(path))
    return path


def _words(phrases: Iterable[str]) -> set[str]:
    return {word for phrase in phrases for word in re.findall(r"\w+|[^\w\s]+", phrase)}


def _verb_of(words: list[str]) -> Verb | None:
    said = set(words)
    if said & {"bowl", "dish"} and said & {"in", "into", "inside"}:
        return Verb.PUT_IN_BOWL
    if said & {"pick", "grab", "lift", "grasp", "take", "raise", "get", "fetch"}:
        return Verb.PICK_UP
    if said & {"move", "go", "hover", "approach", "reach", "point", "above", "over"}:
        return Verb.MOVE_TO
    return None


def _shape_of(word: str) -> str | None:
    return next((shape for shape, nouns in _NOUNS.items() if word in nouns and word not in _ANYTHING), None)


def _named(task: Task, random: np.random.Generator) -> str:
    if task.thing == BOWL:
        return _pick(_BOWLS, random)
    colour, _, shape = task.thing.partition(" ")
    article = _pick(_ARTICLES, random)
    return " ".join(part for part in (article, colour, _pick(_NOUNS[shape], random)) if part)


def _pick(options: tuple[str, ...], random: np.random.Generator) -> str:
    return options[int(random.integers(len(options)))]
