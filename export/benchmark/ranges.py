"""`start:end:step` as perf_analyzer writes it, as the levels to measure. Knows nothing of load."""

import math

from export.benchmark.failure import BadRange

MAX_CONCURRENCY, MAX_RATE_HZ, MAX_LEVELS = 1024, 100_000.0, 50


def concurrency_levels(text: str) -> tuple[int, ...]:
    """`1:8:2` → (1, 3, 5, 7); `4` → (4,); `1:3` → (1, 2, 3). Raises BadRange."""
    levels = _levels(text, "concurrency", MAX_CONCURRENCY)
    if any(level != int(level) for level in levels):
        raise BadRange(f"concurrency range {text!r}: clients are whole numbers")
    return tuple(int(level) for level in levels)


def request_rates(text: str) -> tuple[float, ...]:
    """`50:200:50` → (50.0, 100.0, 150.0, 200.0), requests a second. Raises BadRange."""
    return _levels(text, "request rate", MAX_RATE_HZ)


def _levels(text: str, what: str, largest: float) -> tuple[float, ...]:
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        raise BadRange(f"{what} range {text!r}: write FROM, FROM:TO or FROM:TO:STEP in numbers") from None
    start, end, step = (*parts, parts[0], 1.0)[:3] if len(parts) == 1 else (*parts, 1.0)[:3]
    if len(parts) > 3 or not all(math.isfinite(part) for part in parts):
        raise BadRange(f"{what} range {text!r}: write FROM, FROM:TO or FROM:TO:STEP in numbers")
    if not 0 < start <= end <= largest or step <= 0:
        raise BadRange(f"{what} range {text!r}: 0 < FROM ≤ TO ≤ {largest:g} and STEP > 0")
    count = int((end - start) / step + 1e-9) + 1
    if count > MAX_LEVELS:
        raise BadRange(f"{what} range {text!r}: {count} levels, at most {MAX_LEVELS}")
    return tuple(start + index * step for index in range(count))
