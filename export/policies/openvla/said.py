"""Reads a checkpoint's JSON value by value: of the right type and a plausible size, or one line that names file, key and value.

A size that no network has would not fail but hang, or fill the memory, so every size has a bound. It knows no key's meaning.
Called by `config` and by every reader of statistics.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from export.policies.adapter import CheckpointError

LAYERS, PIXELS, WIDTH, VOCABULARY = 1_000, 10_000, 1_000_000, 10_000_000  # the most that is believed
_MOST_NUMBER = 1e30  # differences and squares of such numbers still fit float32
_SHOWN = 60


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file. Raises CheckpointError when it is missing or not one."""
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise CheckpointError(f"{path}: not a file; download it again")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not found; give the folder of a downloaded checkpoint") from None
    except RecursionError:
        raise CheckpointError(f"{path}: not readable as JSON (nested too deeply); download it again") from None
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error}); download it again") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: holds no JSON object; download it again")
    return found


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a number that float32 can hold and calculate with; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MOST_NUMBER


def shown(value: object) -> str:
    """The value on one line, cut short. An integer too long to print is said to be one."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # more than 4300 digits, or nested too deeply
        return "too large to show"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An object of a JSON file; `place` is how a refusal names it: the file, and the way in it."""

    values: dict[str, Any]
    place: str

    def refusal(self, key: str, needed: str) -> CheckpointError:
        """What to raise when the value under `key` is not what is needed."""
        return CheckpointError(f"{self.place}{key} is {shown(self.values.get(key))}, it must be {needed}; download it again")

    def whole(self, key: str, default: int, *, most: int, least: int = 1) -> int:
        """A whole number from `least` to `most`; the default where it is absent or null."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.refusal(key, "a positive whole number")
        if not least <= value <= most:
            raise self.refusal(key, f"a whole number from {least} to {most:,}")
        return value

    def required(self, key: str, *, most: int) -> int:
        """A whole number from 1 to `most` that must be there."""
        if self.values.get(key) is None:
            raise self.refusal(key, "a positive whole number")
        return self.whole(key, 1, most=most)

    def above_zero(self, key: str, default: float) -> float:
        """A finite number above 0; the default where it is absent, not where it is null."""
        value = self.values.get(key, default)
        if not is_number(value) or value <= 0:
            raise self.refusal(key, "a finite number above 0")
        return float(value)

    def flag(self, key: str) -> bool | None:
        """True, false, or None where it is absent or null."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.refusal(key, "true or false")
        return value

    def part(self, key: str) -> "Said":
        """The object under `key`; an empty one where it is absent or null."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.refusal(key, "an object")
        return Said(values=value or {}, place=f"{self.place}{key}.")

    def listed(self, key: str, kind: type | tuple[type, ...], what: str) -> list[Any] | None:
        """A list of values of one kind that is not empty; None where it is absent or null."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not value or not all(isinstance(one, kind) for one in value):
            raise self.refusal(key, f"a list of {what}")
        return value
