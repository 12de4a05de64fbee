"""Events that Redis acknowledged so lately that it may hold them in memory only.

With `appendfsync everysec` Redis writes its file before it answers, except while an fsync is under way: then the write waits for
up to two seconds and the answers do not. A Redis killed in that time forgets what it has acknowledged (measured: docs/USAGE.md).
So the journal notes here what it has added, and `replay` adds it again when another Redis process answers. Knows no Redis itself.
"""

from collections import deque
from time import monotonic

MOST_EVENTS = 200_000  # a bound on memory, far above what one process adds in WRITTEN_WITHIN_S
WRITTEN_WITHIN_S = 5.0  # two seconds, and room for a Redis that is slow


class Recent:
    """The last few seconds of one process's events, oldest first."""

    def __init__(self) -> None:
        self._events: deque[tuple[float, bytes]] = deque(maxlen=MOST_EVENTS)

    def __len__(self) -> int:
        return len(self._events)

    def note(self, payload: bytes) -> None:
        """Redis has just acknowledged it."""
        self._events.append((monotonic(), payload))

    def forget_before(self, instant: float) -> None:
        """What was acknowledged before that reading of the monotonic clock is in Redis's file."""
        while self._events and self._events[0][0] < instant:
            self._events.popleft()

    def take_all(self) -> list[bytes]:
        """Everything noted, to be added and noted again."""
        payloads = [payload for _, payload in self._events]
        self._events.clear()
        return payloads
