"""Which Triton a config is for: an older server refuses a field it does not know, and then does not start at all.

Knows versions and what came with them; knows no config.
"""

import re
from dataclasses import dataclass
from typing import Self


class VersionUnknown(ValueError):  # noqa: N818 -- reads as what happened
    """A text that names no Triton release."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is no Triton version; write it as Triton does, like 2.51.0 (not the container's 24.10)")


@dataclass(frozen=True, slots=True, order=True)
class ServerVersion:
    """A release of the server itself, such as 2.51.0; containers are named otherwise (26.01 holds 2.65.0)."""

    major: int
    minor: int
    patch: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `2.51.0` or `2.51`. Raises VersionUnknown, also for a container's tag such as 26.01."""
        found = re.fullmatch(r"2\.(\d{1,3})(?:\.(\d{1,3}))?", text.strip())
        if found is None:
            raise VersionUnknown(text)
        return cls(2, int(found[1]), int(found[2] or 0))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def has_model_metrics(self) -> bool:
        """Whether a model may choose the buckets of its own latency histogram (container 26.01 and later)."""
        return self >= ServerVersion(2, 65)


EMBEDDED = ServerVersion(2, 51)  # the newest that is a wheel; the oldest that we serve on
