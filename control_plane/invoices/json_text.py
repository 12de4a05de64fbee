"""JSON as the invoice tables and documents hold it: instants in UTC, exact decimals as text. One place, so that all agree."""

from typing import Any

import msgspec

_ENCODER = msgspec.json.Encoder(decimal_format="string")


def as_json_text(value: Any) -> str:
    """Compact JSON."""
    return _ENCODER.encode(value).decode()
