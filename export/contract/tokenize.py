"""An instruction becomes the token ids that the served graph takes, exactly as the manifest says.

One class for trainer, exporter and control plane, so all three see the same ids. It judges length only: whether an instruction is
polite, known or safe is the caller's business. Words outside the vocabulary become the tokenizer's unknown token.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from export.contract.manifest import Instruction


class InstructionTooLong(ValueError):  # noqa: N818 -- reads as what happened
    """An instruction longer than the policy takes. `unit` is "characters" or "tokens"."""

    def __init__(self, *, length: int, limit: int, unit: str) -> None:
        self.length, self.limit, self.unit = length, limit, unit
        super().__init__(f"the instruction has {length} {unit}, this policy takes {limit}")


class InstructionTokenizer:
    """Loads the policy's own tokenizer once; `ids` is cheap (tens of microseconds) and safe to call from any thread."""

    def __init__(self, manifest_folder: Path, instruction: Instruction) -> None:
        self._spec = instruction
        self._tokenizer = Tokenizer.from_file(str(manifest_folder / instruction.tokenizer_file))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def ids(self, text: str) -> NDArray[np.int64]:
        """(max_tokens,) int64, padded on the right with `pad_id`. Raises InstructionTooLong; never cuts."""
        spec = self._spec
        if len(text) > spec.max_chars:
            raise InstructionTooLong(length=len(text), limit=spec.max_chars, unit="characters")
        words = text.lower() if spec.lowercase else text
        found: list[int] = self._tokenizer.encode(spec.template.replace("{instruction}", words)).ids
        if len(found) > spec.max_tokens:
            raise InstructionTooLong(length=len(found), limit=spec.max_tokens, unit="tokens")
        padded = np.full(spec.max_tokens, spec.pad_id, dtype=np.int64)
        padded[: len(found)] = found
        return padded
