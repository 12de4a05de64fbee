"""Keeps servers running: starts each when what it needs is ready, restarts what ends, stops all in reverse.

    first start    a server that does not become ready fails the whole start: a person has to look (unless nobody waits for it)
    later          it is restarted after a pause that doubles, and given up when it flaps; the others stay up
    replace        one after another, each retired first and waited for: what several share is never without all of them;
                   a process that does not end in its time is killed, and that is told
    stop           rank by rank, the last one first, each server with its own signal and time

A dependency is waited for until it has been ready once; after that each server survives the others' absence by itself, so that
one restart never drags another down. Knows no server by name and prints nothing: `changed` is called at every change.
"""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from deploy.embedded import child
from deploy.embedded.server import BusyError, NotReadyError, Server, StartError, wait_until_ready
from deploy.embedded.state import rotate
from deploy.embedded.status import ServerState, ServerStatus, born_at

_MISSES_BEFORE_RESTART = 2
_SECOND_LOOK_S = 1.0
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarts:
    """How patiently ended servers are started again."""

    first_pause_s: float = 0.2
    longest_pause_s: float = 10.0
    settled_after_s: float = 30.0  # a server that ran so long has not flapped
    give_up_after: int = 10

    def pause_s(self, failures: int) -> float:
        """The pause after that many failures in a row."""
        return float(min(self.first_pause_s * 2 ** (failures - 1), self.longest_pause_s))


@dataclass(slots=True, kw_only=True)
class Kept:
    """One server and how it fares."""

    server: Server
    log: Path
    status: ServerStatus = field(default_factory=lambda: ServerStatus(state=ServerState.WAITING))
    was_ready: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    over: asyncio.Event | None = None  # of the process that runs: it has ended, or shall end now
    was_killed: str | None = None  # how its last process had to be ended
    is_replaced: bool = False  # it is on its way out by our own wish: no fault of its own is looked for


class Supervisor:
    """Use as: `start()`, then wait for whatever ends the service, then `stop()` (also when `start()` has raised)."""

    def __init__(
        self,
        ranks: Sequence[Sequence[Server]],
        *,
        log_of: Callable[[str], Path],
        changed: Callable[[], None],
        restarts: Restarts | None = None,
    ) -> None:
        self._ranks = [[Kept(server=server, log=log_of(server.name)) for server in rank] for rank in ranks]
        self._kept = {kept.server.name: kept for rank in self._ranks for kept in rank}
        self._changed = changed
        self._restarts = restarts or Restarts()

    @property
    def servers(self) -> dict[str, ServerStatus]:
        """How each server fares now, in start order."""
        return {name: kept.status for name, kept in self._kept.items()}

    async def start(self) -> None:
        """Returns when every awaited server is ready. Raises StartError with the first reason why that cannot be."""
        self._refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for kept in self._kept.values():
            kept.task = asyncio.create_task(self._keep(kept), name=f"keep {kept.server.name}")
        ready = asyncio.gather(*(kept.was_ready.wait() for kept in self._kept.values() if kept.server.is_awaited))
        either: list[asyncio.Future[Any]] = [ready, self._refused]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
            await asyncio.gather(ready, return_exceptions=True)
        if self._refused.done():
            self._refused.result()

    async def stop(self) -> None:
        """Ends every server, the last rank first."""
        for rank in reversed(self._ranks):
            tasks = [kept.task for kept in rank if kept.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for kept in rank:
                if kept.status.state not in {ServerState.DONE, ServerState.GIVEN_UP}:
                    self._to(kept, ServerState.STOPPED, pid=None, born_at=None)

    async def replace(self, name: str) -> str | None:
        """Ends one server's process when nobody needs it and waits for the next one. Raises StartError when that is not ready.

        Returns how the old one had to be ended, where asking was not enough.
        """
        kept = self._kept[name]
        pid = kept.status.pid
        if kept.status.state is not ServerState.READY or pid is None:
            raise StartError(f"{name}: is {kept.status.state}, and only what is ready is replaced")
        kept.is_replaced, kept.was_killed = True, None
        if kept.server.retire is not None:
            await kept.server.retire(pid)
        if kept.status.pid == pid and kept.over is not None:  # it may have ended by itself meanwhile
            kept.over.set()
        patience_s = kept.server.stop_timeout_s + kept.server.start_timeout_s
        for _ in range(int(patience_s / _LOOK_S)):
            if kept.status.state is ServerState.READY and kept.status.pid not in {pid, None}:
                return kept.was_killed
            if kept.status.state in {ServerState.RESTARTING, ServerState.GIVEN_UP}:  # the new one came to nothing
                raise StartError(f"{name}: {kept.status.detail}")
            await asyncio.sleep(_LOOK_S)
        raise StartError(f"{name}: the new process was not ready after {patience_s:g} s ({kept.status.detail})")

    async def _keep(self, kept: Kept) -> None:
        for name in kept.server.depends_on:
            await self._kept[name].was_ready.wait()
        failures = 0
        while True:
            began = time.monotonic()
            try:
                reason = await self._run(kept, began)
            except StartError as error:
                reason = str(error)
                if not kept.was_ready.is_set() and kept.server.is_awaited:
                    return self._refuse(kept, error)
            if kept.server.is_one_shot:
                return None
            if kept.is_replaced:
                kept.is_replaced, failures = False, 0
                continue
            failures = 1 if time.monotonic() - began > self._restarts.settled_after_s else failures + 1
            if failures > self._restarts.give_up_after:
                return self._to(kept, ServerState.GIVEN_UP, detail=f"{reason}; given up after {failures - 1} restarts")
            pause_s = self._restarts.pause_s(failures)
            self._to(kept, ServerState.RESTARTING, detail=f"{reason}; again in {pause_s:g} s", restarts=kept.status.restarts + 1)
            await asyncio.sleep(pause_s)

    async def _run(self, kept: Kept, began: float) -> str:
        """One life of the server: returns why it ended after having been ready, raises StartError if it never was."""
        server = kept.server
        self._to(kept, ServerState.STARTING)
        await asyncio.to_thread(server.prepare)
        rotate(kept.log)
        process = child.spawn(server, log=kept.log)
        try:
            self._to(kept, ServerState.STARTING, pid=process.pid, born_at=born_at(process.pid))
            with _end_of(process) as ended:
                kept.over = ended
                await self._until_ready(kept, process, ended)
                state = ServerState.DONE if server.is_one_shot else ServerState.READY
                self._to(kept, state, detail=None, ready_after_s=round(time.monotonic() - began, 2))
                kept.was_ready.set()
                return "" if server.is_one_shot else await _until_broken(kept, process, ended)
        finally:
            if is_asked := process.poll() is None:
                self._to(kept, ServerState.STOPPING)
            status = await asyncio.to_thread(child.stop, server, process)
            if is_asked and status == -signal.SIGKILL:
                kept.was_killed = _insisted(kept, process.pid)
            self._to(kept, kept.status.state, pid=None, born_at=None)

    async def _until_ready(self, kept: Kept, process: subprocess.Popen[bytes], ended: asyncio.Event) -> None:
        if kept.server.is_one_shot:
            await ended.wait()
            if process.wait() == 0:
                return
            raise StartError(f"{kept.server.name}: {_how(process)}{_last_words(kept.log)}")
        try:
            await wait_until_ready(kept.server, process.pid, is_alive=lambda: not ended.is_set())
        except StartError as error:
            words = _last_words(kept.log) if ended.is_set() else f"; see {kept.log}"
            raise StartError(f"{error}{words}") from None

    def _refuse(self, kept: Kept, error: StartError) -> None:
        self._to(kept, ServerState.GIVEN_UP, detail=str(error))
        if not self._refused.done():
            self._refused.set_exception(error)

    def _to(self, kept: Kept, state: ServerState, **facts: object) -> None:
        kept.status = msgspec.structs.replace(kept.status, state=state, **facts)
        self._changed()


async def _until_broken(kept: Kept, process: subprocess.Popen[bytes], ended: asyncio.Event) -> str:
    server, misses = kept.server, 0
    while misses < _MISSES_BEFORE_RESTART:
        try:
            await asyncio.wait_for(ended.wait(), _SECOND_LOOK_S if misses else server.probe_every_s)
            return _how(process)
        except TimeoutError:
            if kept.is_replaced:
                continue
        try:
            await server.check(process.pid)
            misses = 0
        except BusyError:
            continue
        except (NotReadyError, StartError) as error:
            misses += 1
            seen = str(error)
    return f"no longer answers ({seen})"


@contextmanager
def _end_of(process: subprocess.Popen[bytes]) -> Iterator[asyncio.Event]:
    """Set when the process has ended: the kernel tells us, nothing polls."""
    ended, loop, descriptor = asyncio.Event(), asyncio.get_running_loop(), os.pidfd_open(process.pid)

    def tell() -> None:
        ended.set()
        loop.remove_reader(descriptor)  # it stays readable, and would be reported without end

    loop.add_reader(descriptor, tell)
    try:
        yield ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _insisted(kept: Kept, pid: int) -> str:
    """That a process had to be killed, also as a line of its log."""
    server = kept.server
    text = f"{server.name}: pid {pid} did not end within {server.stop_timeout_s:g} s of {server.stop_signal.name}, and was killed"
    with kept.log.open("a") as log:
        log.write(f"vlaapi: {text}\n")
    return text


def _how(process: subprocess.Popen[bytes]) -> str:
    if (status := process.poll()) is None:
        return "replaced"
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"


def _last_words(log: Path) -> str:
    """The last line of a log, for a message."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 2000))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return f": {lines[-1].strip()} ({log})" if lines else f" ({log} is empty)"
