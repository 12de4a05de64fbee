"""Remembers that an outside server is away, so that a hanging one costs one wait per pause and not one per request.

Knows no server: `redis.py` puts one around every command, identity one around its PostgreSQL look-ups.
One per process and server.
"""

import time
from collections.abc import Callable


class Breaker:
    """Closed while the server answers. A failure opens it; after `pause_s` one caller at a time may try again.

    `may_try` also claims the try, so ask it only right before trying, then report with `succeeded` or `failed`. A claim that is
    never reported (a cancelled request) lapses after another pause.
    """

    def __init__(self, *, pause_s: float = 0.5, clock: Callable[[], float] = time.monotonic) -> None:
        self._pause_s = pause_s
        self._clock = clock
        self._try_again_at: float | None = None

    @property
    def is_open(self) -> bool:
        """True while the server is taken to be away."""
        return self._try_again_at is not None

    def may_try(self) -> bool:
        """Whether this caller should try the server now."""
        if self._try_again_at is None:
            return True
        now = self._clock()
        if now < self._try_again_at:
            return False
        self._try_again_at = now + self._pause_s
        return True

    def succeeded(self) -> None:
        """The server answered."""
        self._try_again_at = None

    def failed(self) -> None:
        """The server did not answer."""
        self._try_again_at = self._clock() + self._pause_s
