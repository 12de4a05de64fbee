"""What can be said to the policy: a small grammar of English requests, its vocabulary and its tokenizer file.

Training draws from `training_instruction`; `HELD_OUT` holds sentence forms and words it never sees. It knows no images,
no robot and no torch. The ids themselves come from `export.contract.tokenize`, so trainer and control plane cannot differ.
"""

import re
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from export.contract.facts import Instruction

COLOURS = ("red", "green", "blue")
TOKENIZER_FILE = "tokenizer.json"
PAD, UNKNOWN = "[PAD]", "[UNK]"
PAD_ID, UNKNOWN_ID = 0, 1
MAX_TOKENS = 24

_VERBS = (
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
)
_ARTICLES = ("", "the", "the", "a", "that", "this", "the small")
_NOUNS = ("cube", "block", "box", "brick", "object", "piece", "cube on the table", "block from the table")
_ENDINGS = ("", "", "", "", ".", "!", "please", ", please")

HELD_OUT = (
    "could you lift the {colour} cube for me",
    "i would like the {colour} block , pick it up",
    "find the {colour} box and grasp it",
    "move over to the {colour} piece and take it",
    "bring me the {colour} one",
    "robot , go grab that shiny {colour} brick now",
    "the {colour} cube : raise it",
    "Pick The {colour} Cube Up !",
)

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


def training_instruction(colour: str, random: np.random.Generator) -> str:
    """One request of the training grammar: verb, perhaps an article, colour, noun, perhaps an ending."""
    parts = (_pick(_VERBS, random), _pick(_ARTICLES, random), colour, _pick(_NOUNS, random), _pick(_ENDINGS, random))
    return " ".join(part for part in parts if part)


def plain_instruction(colour: str) -> str:
    """The shortest request, as in the API's own example."""
    return f"pick up {colour} cube"


def held_out_instruction(colour: str, random: np.random.Generator) -> str:
    """A request in words or an order that training never saw."""
    return _pick(HELD_OUT, random).format(colour=colour)


def vocabulary() -> dict[str, int]:
    """Every word and mark of the training grammar; all else is `[UNK]`."""
    phrases = (*_VERBS, *_ARTICLES, *_NOUNS, *_ENDINGS, *COLOURS)
    words = sorted({word for phrase in phrases for word in re.findall(r"\w+|[^\w\s]+", phrase)})
    return {PAD: PAD_ID, UNKNOWN: UNKNOWN_ID} | {word: index for index, word in enumerate(words, start=2)}


def write_tokenizer(folder: Path) -> Path:
    """Writes `folder/tokenizer.json` from the grammar; the same grammar gives the same bytes."""
    tokenizer = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path = folder / TOKENIZER_FILE
    tokenizer.save(str(path))
    return path


def _pick(options: tuple[str, ...], random: np.random.Generator) -> str:
    return options[int(random.integers(len(options)))]
