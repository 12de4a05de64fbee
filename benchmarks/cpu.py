"""CPU time of running processes, from the kernel's own accounting. Linux only. Knows nothing of what they do.

The same work costs more CPU after an idle spell, because a core that slept comes back with cold caches; on a shared host by far
more. `after_idle` measures that on a piece of work of the caller's, so that a figure at low load can be read.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: Iterable[int]) -> float:
    """User plus system time of `pids` since they started, their threads included, children not, in seconds."""
    return sum(_ticks(pid) for pid in pids) * TICK_S


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


class Meter:
    """CPU of families of processes while it is open (`with`), which may be several times; `requests` is set by whoever counts."""

    def __init__(self, families: Mapping[str, Iterable[int]]) -> None:
        self.requests = 0
        self._families = {kind: tuple(pids) for kind, pids in families.items()}
        self._spent_s = dict.fromkeys(self._families, 0.0)
        self._before: dict[str, float] = {}

    def __enter__(self) -> None:
        self._before = self._now()

    def __exit__(self, *_: object) -> None:
        for kind, seconds in self._now().items():
            self._spent_s[kind] += seconds - self._before[kind]

    def ms_per_request(self) -> dict[str, float]:
        """CPU-ms per request by family."""
        return {kind: round(seconds * 1000 / self.requests, 3) for kind, seconds in self._spent_s.items()}

    def _now(self) -> dict[str, float]:
        return {kind: cpu_seconds(pids) for kind, pids in self._families.items()}


def after_idle(work: Callable[[], None], *, idle_s: float, times: int = 150) -> float:
    """CPU-ms of one `work` on this thread when the thread slept `idle_s` before each; mean of `times`."""
    for _ in range(10):
        work()
    spent = 0.0
    for _ in range(times):
        if idle_s:
            time.sleep(idle_s)
        began = time.thread_time()
        work()
        spent += time.thread_time() - began
    return spent / times * 1000
