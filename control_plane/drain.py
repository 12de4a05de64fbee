"""A process on its way out: it goes on answering, tells every connection to close with its answer, and is not ready any more.

So nobody's request meets a closing connection: whoever is in front (nginx, a load balancer) hears `Connection: close` in an
answer and never uses that connection again. Begun by DRAIN_SIGNAL; SIGTERM then finds nothing to cut. Knows no server, no route.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

DRAIN_SIGNAL = signal.SIGUSR2
_CLOSE = (b"connection", b"close")


@dataclass(slots=True, kw_only=True)
class Drain:
    """One process's state. `farewell` is what every answer carries besides its own headers: nothing, until it begins."""

    farewell: list[tuple[bytes, bytes]] = field(default_factory=list)
    leave: set[Callable[[], None]] = field(default_factory=set)

    @property
    def has_begun(self) -> bool:
        """Whether new work should go elsewhere."""
        return bool(self.farewell)

    def begin(self) -> None:
        """From now on; there is no way back."""
        if not self.farewell:
            self.farewell.append(_CLOSE)
            for leave in tuple(self.leave):
                leave()

    @contextmanager
    def by_signal(self) -> Iterator[None]:
        """Listens for the signal, where a process can: not in a thread of somebody else's."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(DRAIN_SIGNAL, self.begin)
        try:
            yield
        finally:
            loop.remove_signal_handler(DRAIN_SIGNAL)
