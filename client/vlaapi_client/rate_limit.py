"""What is left of the limit per minute, as the headers of every answer say it, errors after admission included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class RateLimit:
    """The tightest limit per minute; None where the service did not say. `full_in_s`: until all of it is there again."""

    limit: int | None
    remaining: int | None
    full_in_s: int | None


def rate_limit_from(headers: Mapping[str, str]) -> RateLimit:
    """The X-RateLimit headers; what is not a whole number is None."""

    def number(name: str) -> int | None:
        text = headers.get(f"x-ratelimit-{name}-requests", "")
        return int(text) if text.isascii() and text.isdigit() else None

    reset = headers.get("x-ratelimit-reset-requests", "")
    seconds = reset[:-1] if reset.endswith("s") else reset
    full_in_s = int(seconds) if seconds.isascii() and seconds.isdigit() else None
    return RateLimit(limit=number("limit"), remaining=number("remaining"), full_in_s=full_in_s)
