"""Which of the requests that may be kept are kept: every Nth session whole, and whatever is worth a look.

    every=10 rejects score_below=0.5 entropy_above=0.8 feedback

`every` picks sessions by a hash, so that all processes agree and an episode is whole or absent; requests without a session are
picked one by one. The other rules keep single requests of any session. Knows no store.
"""

import re
import zlib
from dataclasses import dataclass

_RULE = re.compile(r"(every|rejects|score_below|entropy_above|feedback)(?:=([0-9]{1,9}(?:\.[0-9]{1,9})?))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """`every` 0: no session is kept for its own sake. `feedback`: what feedback is given about within minutes is kept."""

    every: int = 1
    rejects: bool = False
    score_below: float = 0.0
    entropy_above: float | None = None
    feedback: bool = False

    @property
    def waits_for_feedback(self) -> bool:
        """Whether something that nothing else keeps has to be held back for a while."""
        return self.feedback and self.every != 1

    def picks(self, session: bytes) -> bool:
        """Whether this session (or request without one) is one of the Nth."""
        return self.every > 0 and zlib.crc32(session) % self.every == 0

    def reasons(self, *, is_picked: bool, is_rejected: bool, score: float | None, entropy: float | None) -> tuple[str, ...]:
        """Why a request is kept; empty: it is not, unless there will be feedback."""
        found = {
            "every": is_picked,
            "reject": self.rejects and is_rejected,
            "score": score is not None and score < self.score_below,
            "entropy": entropy is not None and self.entropy_above is not None and entropy > self.entropy_above,
        }
        return tuple(name for name, is_so in found.items() if is_so)


def rules_of(text: str) -> Rules:
    """The rules in words. Raises ValueError naming the one at fault."""
    given: dict[str, str | None] = {}
    for word in text.split():
        match = _RULE.fullmatch(word)
        if match is None or match[1] in given:
            raise ValueError(f"{word!r} is no rule, or said twice; see docs/TRAINING_DATA.md")
        given[match[1]] = match[2]
    for name in ("every", "score_below", "entropy_above"):
        if name in given and given[name] is None:
            raise ValueError(f"{name} needs a number: {name}=…")
    for name in ("rejects", "feedback"):
        if given.get(name) is not None:
            raise ValueError(f"{name} takes no number")
    every = given.get("every") or "0"
    if "." in every:
        raise ValueError("every takes a whole number")
    entropy = given.get("entropy_above")
    return Rules(
        every=int(every),
        rejects="rejects" in given,
        score_below=float(given.get("score_below") or 0),
        entropy_above=None if entropy is None else float(entropy),
        feedback="feedback" in given,
    )
