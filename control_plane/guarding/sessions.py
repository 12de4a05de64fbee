"""What a session remembers between two requests: the last accepted chunk and the last `seq`, for seconds, in Redis.

Scoped by customer, policy and robot. A turn is opened in the round trip of the admission and ended in the round trip of the
journal, so that it costs none of its own; Redis decides, so that two processes cannot both accept one `seq`. Degrades to "not
known": with Redis away, a key expired or another request of the session still in flight, nothing is handed out and rules that
need it say so. Knows no rule and no HTTP.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from uuid import UUID

from redis.asyncio.client import Pipeline

from safety.context import PreviousChunk
from safety.memory import TTL_S, packed, unpacked

TTL_MS = TTL_S * 1000
# EVAL and not EVALSHA: inside someone else's pipeline there is nobody to answer NOSCRIPT.
_OPEN, _KEEP, _LEAVE = (Path(__file__).with_name(f"{verb}_session.lua").read_text() for verb in ("open", "keep", "leave"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionKey:
    """Which session: no other customer, policy or robot can have the same."""

    customer_id: UUID
    policy: str
    robot_type: str
    session_id: str

    def name(self) -> bytes:
        """The key in Redis, with the customer's hash tag, so that a cluster keeps it beside the leases."""
        scope = "\0".join((self.policy, self.robot_type, self.session_id)).encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(scope, digest_size=16).hexdigest()
        return b"vla:session:{%b}:%b" % (self.customer_id.hex.encode(), digest.encode())


class Turn:
    """One request's turn in its session. `keeps_content=False` (zero retention): `seq` is remembered, no number of a robot is."""

    def __init__(self, key: SessionKey, *, seq: int | None, hold_ms: int, keeps_content: bool) -> None:
        self._name = key.name()
        self._seq = b"" if seq is None else b"%d" % seq
        self._hold_ms = hold_ms
        self._keeps_content = keeps_content
        self._lease = b""
        self._opened_at: tuple[float, float] | None = None  # Redis's clock and ours at the same moment, in seconds
        self.is_replayed = False
        self.previous: PreviousChunk | None = None

    def queue_into(self, pipeline: Pipeline, *, leases: bytes, lease: bytes) -> None:
        """Adds what opens the turn, behind the admission that it depends on."""
        self._lease = lease
        pipeline.eval(_OPEN, 2, self._name, leases, lease, self._seq, b"%d" % TTL_MS, b"%d" % self._hold_ms)

    def take(self, reply: object) -> None:
        """What Redis answered; anything but an answer of ours leaves everything unknown."""
        if not isinstance(reply, list) or len(reply) != 3 or reply[0] == b"refused":
            return
        self._opened_at = reply[2] / 1e6, perf_counter()
        self.is_replayed = reply[0] == b"replayed"
        self.previous = unpacked(reply[1] or None)

    def now_s(self) -> float | None:
        """Redis's clock, which all processes share. None: it was away."""
        if self._opened_at is None:
            return None
        there_s, here_s = self._opened_at
        return there_s + perf_counter() - here_s

    def keep_into(self, pipeline: Pipeline, chunk: PreviousChunk | None) -> None:
        """Adds what ends the turn with `chunk` as the last accepted one. Nothing if the turn was never opened."""
        if self._opened_at is None or self.is_replayed:
            return
        kept = chunk if self._keeps_content else None
        data, sent_ms = (b"", 0) if kept is None else (packed(kept), int(kept.sent_at_s * 1e3))
        pipeline.eval(_KEEP, 1, self._name, self._lease, data, b"%d" % sent_ms, self._seq, b"%d" % TTL_MS)

    def leave_into(self, pipeline: Pipeline) -> None:
        """Adds what ends the turn as if the request had not come."""
        if self._opened_at is not None and not self.is_replayed:
            pipeline.eval(_LEAVE, 1, self._name, self._lease)
