"""Numbers as Grafana writes them, for the units that our panels have."""

import math
from collections.abc import Mapping
from typing import Any

_SHORT = ((1e9, " Bil"), (1e6, " Mil"), (1e3, " K"))


def shown(value: object, field: Mapping[str, Any]) -> str:
    """`field` is `fieldConfig.defaults`, with the overrides of its column."""
    if value is None:
        return ""
    if isinstance(value, str) or field["unit"] == "string":
        return str(value)
    amount, unit, decimals = float(value), field["unit"], field.get("decimals")  # type: ignore[arg-type]  # a number of any kind
    match unit:
        case "percent":
            return f"{_plain(amount, decimals)}%"
        case "percentunit":
            return f"{_plain(amount * 100, decimals)}%"
        case "ms":
            return f"{_plain(amount / 1000, decimals)} s" if amount >= 1000 else f"{_plain(amount, decimals)} ms"
        case "s":
            return _span(amount, decimals)
        case "locale":
            return f"{amount:,.{0 if decimals is None and amount == int(amount) else 2 if decimals is None else decimals}f}"
        case "short":
            return _short(amount, decimals)
        case "hertz":
            return f"{_plain(amount / 1e9, decimals)} GHz" if amount >= 1e9 else f"{_plain(amount / 1e6, decimals)} MHz"
        case "none":
            return _plain(amount, decimals)
        case _:
            return f"{_short(amount, decimals)}{_SUFFIX[unit]}"


_SUFFIX = {"celsius": " °C", "watt": " W", "reqps": " req/s"}


def _span(seconds: float, decimals: int | None) -> str:
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "min")):
        if seconds >= size:
            return f"{_plain(seconds / size, decimals)} {word}"
    return f"{_plain(seconds, decimals)} s"


def _short(amount: float, decimals: int | None) -> str:
    for size, word in _SHORT:
        if abs(amount) >= size:
            return f"{_plain(amount / size, decimals)}{word}"
    return _plain(amount, decimals)


def _plain(amount: float, decimals: int | None) -> str:
    if decimals is not None:
        return f"{amount:.{decimals}f}"
    if amount == 0 or not math.isfinite(amount):
        return f"{amount:g}"
    places = max(0, 2 - math.floor(math.log10(abs(amount))))
    return f"{amount:.{min(places, 6)}f}".rstrip("0").rstrip(".") if places else f"{amount:.0f}"


def color_of(value: object, field: Mapping[str, Any]) -> str:
    """The colour of the last step that the value has reached."""
    steps = field["thresholds"]["steps"]
    color: str = steps[0]["color"]
    if isinstance(value, str) or value is None:
        return color
    for step in steps[1:]:
        if float(value) >= step["value"]:  # type: ignore[arg-type]  # a number of any kind
            color = step["color"]
    return color
