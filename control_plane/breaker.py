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

    def __init__(
        self,
        *,
        pause_s: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[int], None] | None = None,
    ) -> None:
        self._pause_s = pause_s
        self._clock = clock
        self._changed = changed  # told 1 when it opens and 0 when it closes: a gauge's `set`
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
        was_open, self._try_again_at = self.is_open, None
        if was_open and self._changed is not None:
            self._changed(0)

    def failed(self) -> None:
        """The server did not answer."""
        was_open, self._try_again_at = self.is_open, self._clock() + self._pause_s
        if not was_open and self._changed is not None:
            self._changed(1)
