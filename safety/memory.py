"""What a session must remember between two requests, as a value and as bytes. Pure: the control plane stores and expires it.

Losing it only leaves rules unevaluated. Bytes that are not ours, or damaged, are no memory: never an error, never a guess.
"""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np

from safety.context import Context, Numbers, PreviousChunk
from safety.verdict import Decision, Verdict

TTL_S = 10
BYTES_MAX = 64_000
_VERSION = 1
_FIELDS = ("sent_at_s", "seq", "image_hash", "q", "ee_position", "frozen_count", "frozen_steps", "tracking_count")


def remembered(context: Context, verdict: Verdict) -> PreviousChunk | None:
    """What to keep after this answer; None: nothing. After a refused motion the chunk before it stays the last accepted one.

    Keep what was there when the request itself was at fault: this returns exactly that.
    """
    before = context.previous
    if verdict.refused_for is not None and verdict.refused_for.is_request_at_fault:
        return before
    state = context.state
    seen: dict[str, Any] = {
        "seq": context.seq if context.seq is not None or before is None else before.seq,
        "image_hash": context.image_hash,
        "q": None if state is None else _numbers(state.q),
        "ee_position": None if state is None else _numbers(state.ee_position),
        "frozen_count": verdict.frozen_count,
        "frozen_steps": verdict.frozen_steps,
        "tracking_count": verdict.tracking_count,
    }
    if verdict.decision is Decision.REJECT:
        return None if before is None else replace(before, **seen)
    return None if context.now_s is None else PreviousChunk(actions=verdict.actions, sent_at_s=context.now_s, **seen)


def _numbers(values: Numbers | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(number) for number in values)


def packed(chunk: PreviousChunk) -> bytes:
    """One line of JSON, then the float32 numbers: some 100 bytes and 4 per number."""
    head = {name: getattr(chunk, name) for name in _FIELDS} | {"v": _VERSION, "shape": chunk.actions.shape}
    return json.dumps(head, allow_nan=False).encode() + b"\n" + np.ascontiguousarray(chunk.actions, dtype="<f4").tobytes()


def unpacked(data: bytes | None) -> PreviousChunk | None:
    """The chunk, or None for anything that `packed` did not write."""
    if data is None or len(data) > BYTES_MAX:
        return None
    head, _, body = data.partition(b"\n")
    try:
        table = json.loads(head)
        if not isinstance(table, dict) or table.pop("v", None) != _VERSION:
            return None
        steps, width = table.pop("shape")
        actions = np.frombuffer(body, dtype="<f4").reshape(steps, width).astype(np.float32)
        for name in ("q", "ee_position"):
            table[name] = None if table[name] is None else tuple(float(number) for number in table[name])
        chunk = PreviousChunk(actions=actions, **table)
    except (ValueError, TypeError, KeyError):
        return None
    return chunk if _is_plausible(chunk) else None


def _is_plausible(chunk: PreviousChunk) -> bool:
    counters = (chunk.frozen_count, chunk.frozen_steps, chunk.tracking_count)
    numbers = (*(chunk.q or ()), *(chunk.ee_position or ()), chunk.sent_at_s)
    return (
        chunk.actions.size > 0
        and bool(np.isfinite(chunk.actions).all())
        and all(type(number) is float and math.isfinite(number) for number in numbers)
        and all(type(count) is int and count >= 0 for count in counters)
        and (chunk.seq is None or type(chunk.seq) is int)
        and (chunk.image_hash is None or type(chunk.image_hash) is str)
    )
