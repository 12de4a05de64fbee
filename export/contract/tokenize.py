"""An instruction becomes the token ids that the served graph takes, exactly as the manifest says.

One class for trainer, exporter and control plane, so all three see the same ids. It judges length only: whether an instruction is
polite, known or safe is the caller's business. Words outside the vocabulary become the tokenizer's unknown token.
"""

import json
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from export.contract.facts import Instruction
from export.contract.manifest import ManifestError

_BYTE = re.compile(r"<0x[0-9A-F]{2}>$")  # any byte can be said
_REMEMBERED = 1024  # sentences
_RARE = "zqxj \u2603 \U0001f9be \uffff"  # what few vocabularies hold: becomes the unknown token or bytes


class InstructionTooLong(ValueError):  # noqa: N818 -- reads as what happened
    """An instruction longer than the policy takes. `unit` is "characters" or "tokens"."""

    def __init__(self, *, length: int, limit: int, unit: str) -> None:
        self.length, self.limit, self.unit = length, limit, unit
        super().__init__(f"the instruction has {length} {unit}, this policy takes {limit}")


class InstructionTokenizer:
    """Loads the policy's own tokenizer once; `ids` is cheap (tens of microseconds) and safe to call from any thread.

    A caller's text never becomes a special token: "<s>" in an instruction is four characters.
    """

    def __init__(self, manifest_folder: Path, instruction: Instruction) -> None:
        """Raises ManifestError when the tokenizer is not there, or contradicts the manifest."""
        self._spec = instruction
        self._tokenizer = load_tokenizer(manifest_folder / instruction.tokenizer_file)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True
        self._refuse_special_template()
        self._refuse_padding_that_can_be_said()
        self._remembered = lru_cache(maxsize=_REMEMBERED)(self._ids)

    def ids(self, text: str) -> NDArray[np.int64]:
        """(max_tokens,) int64, the caller's own, padded on the right with `pad_id`. Raises InstructionTooLong; never cuts.

        An episode says the same words with every frame, so the last sentences are remembered, in memory only.
        """
        return self._remembered(text).copy()

    def _ids(self, text: str) -> NDArray[np.int64]:
        spec = self._spec
        if len(text) > spec.max_chars:
            raise InstructionTooLong(length=len(text), limit=spec.max_chars, unit="characters")
        found = self._prompt(text)
        if len(found) > spec.max_tokens:
            raise InstructionTooLong(length=len(found), limit=spec.max_tokens, unit="tokens")
        padded = np.full(spec.max_tokens, spec.pad_id, dtype=np.int64)
        padded[: len(found)] = found
        return padded

    def _prompt(self, text: str) -> list[int]:
        spec = self._spec
        words = text.lower() if spec.lowercase else text
        found: list[int] = self._tokenizer.encode(spec.template.replace("{instruction}", words)).ids
        if spec.append_id is not None and found[-1:] != [spec.append_id]:
            found.append(spec.append_id)
        return found

    def _refuse_special_template(self) -> None:
        special = [token.content for token in self._tokenizer.get_added_tokens_decoder().values() if token.special]
        found = [content for content in special if content in self._spec.template]
        if found:
            raise ManifestError(f"instruction.template: {found[0]!r} is a special token, which text never becomes")

    def _refuse_padding_that_can_be_said(self) -> None:
        """Graph and runner read a prompt's length off its padding, so no prompt may hold it."""
        pad = self._spec.pad_id
        token = self._tokenizer.id_to_token(pad) or ""
        said = self._tokenizer.decode([pad], skip_special_tokens=False)
        texts = ("", token, said, f"a {said} b", _RARE)
        if _BYTE.match(token) or any(pad in self._prompt(text) for text in texts):
            raise ManifestError(f"instruction.pad_id: {pad} can occur in a prompt, so it cannot mark its end")


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a `tokenizer.json`. Raises ManifestError, one line, when it is none."""
    if not path.is_file():
        raise ManifestError(f"{path}: no tokenizer")
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("model"), dict):
        raise ManifestError(f"{path}: not a tokenizer, or cut short")
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # noqa: BLE001 -- the library, written in Rust, raises nothing narrower
        raise ManifestError(f"{path}: not a tokenizer that can be read ({' '.join(str(error).split())})") from None
