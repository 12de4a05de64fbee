"""One life of the whole service, inside the supervising process: start, prove with a canary, wait, stop.

Every change goes to `status.json` (for `vlaapi status` and a waiting `up --detach`) and to `show` (the terminal). What a person
must change is raised as one of REFUSALS, after everything that had been started is stopped.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from control_plane.settings import SettingsError
from deploy.embedded.api import empty_metrics
from deploy.embedded.demo import read_demo
from deploy.embedded.ports import refuse_taken
from deploy.embedded.postgres import refuse_root_without_namespaces
from deploy.embedded.question import check_service
from deploy.embedded.server import StartError
from deploy.embedded.stack import Site, Stack, build_stack
from deploy.embedded.state import State, close_state, rotate, write_private
from deploy.embedded.status import Phase, Replacement, Status, end_leftovers, write_status
from deploy.embedded.supervisor import Supervisor
from export.contract.manifest import ManifestError, load_manifest

REFUSALS = (StartError, SettingsError, ManifestError)

# What a signal to the supervising process replaces: every server whose name begins so.
REPLACED_BY = {signal.SIGUSR1: "api-", signal.SIGUSR2: "worker"}

Show = Callable[[Status], None]


async def live(site: Site, show: Show) -> None:
    """Runs the service until SIGINT, SIGTERM or SIGHUP. Call while owning the state folder."""
    life = Life(site.state, prepare(site), show)
    await life.run()


def prepare(site: Site) -> Stack:
    """Everything that can be refused before a process is started. Also clears what the last life left behind."""
    stack = build_stack(site)
    refuse_root_without_namespaces()
    end_leftovers(site.state.root)
    ports = [(server.name, port) for server in stack.servers for port in server.ports]
    refuse_taken(ports)
    empty_metrics(site.state)
    rotate(site.state.log("access"))
    lines = [f"{name}={value}\n" for name, value in sorted(stack.variables.items())]
    write_private(site.state.root / "env", "".join(lines).encode())
    return stack


class Life:
    """The service from start to stop."""

    def __init__(self, state: State, stack: Stack, show: Show) -> None:
        self._state, self._stack, self._show = state, stack, show
        self._began = time.monotonic()
        self._status = Status(state=Phase.STARTING, supervisor_pid=os.getpid(), url=stack.url, notes=stack.notes, servers={})
        self._replacing = set[asyncio.Task[None]]()
        self._one_at_a_time = asyncio.Lock()
        self._supervisor = Supervisor(stack.ranks, log_of=state.log, changed=self._tell)

    async def run(self) -> None:
        """Until a signal asks for the end. Raises StartError when it never became ready."""
        asked = _asked_to_stop()
        for number, prefix in REPLACED_BY.items():
            asyncio.get_running_loop().add_signal_handler(number, self._begin_to_replace, prefix)
        try:
            if await _unless(asked, self._start()):
                await asked.wait()
        except StartError as error:
            self._tell(error=str(error))
            raise
        finally:
            for task in self._replacing:
                task.cancel()
            await asyncio.gather(*self._replacing, return_exceptions=True)
            self._tell(state=Phase.STOPPING)
            await self._supervisor.stop()
            close_state(self._state)
            self._tell(state=Phase.STOPPED if self._status.error is None else Phase.FAILED)

    async def _start(self) -> None:
        self._tell()
        await self._supervisor.start()
        demo = read_demo(self._state.root)
        control = self._stack.control
        action = load_manifest(control.model_repository / control.default_policy).action
        await asyncio.to_thread(check_service, self._stack.url, demo.key, action)
        self._tell(state=Phase.READY, demo_key=demo.key, ready_after_s=round(time.monotonic() - self._began, 2))

    def _begin_to_replace(self, prefix: str) -> None:
        """One after another; what is asked for while another is being done comes after it."""
        if self._status.state is Phase.READY:
            task = asyncio.create_task(self._replace(prefix))
            self._replacing.add(task)
            task.add_done_callback(self._replacing.discard)

    async def _replace(self, prefix: str) -> None:
        async with self._one_at_a_time:
            last = self._status.replacements.get(prefix)
            now = Replacement(number=1 if last is None else last.number + 1)
            try:
                for name in [name for name in self._supervisor.servers if name.startswith(prefix)]:
                    self._tell_of(prefix, now)
                    was_killed = await self._supervisor.replace(name)
                    line = f"{name} is replaced" if was_killed is None else f"{name} is replaced ({was_killed})"
                    now = msgspec.structs.replace(now, told=(*now.told, line))
            except StartError as error:
                now = msgspec.structs.replace(now, fault=str(error))
            self._tell_of(prefix, msgspec.structs.replace(now, is_over=True))

    def _tell_of(self, prefix: str, replacement: Replacement) -> None:
        self._tell(replacements={**self._status.replacements, prefix: replacement})

    def _tell(self, **facts: Any) -> None:
        self._status = msgspec.structs.replace(self._status, servers=self._supervisor.servers, **facts)
        write_status(self._state.root, self._status)
        self._show(self._status)


def _asked_to_stop() -> asyncio.Event:
    asked, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, asked.set)
    return asked


async def _unless(asked: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Whether the work was finished before the end was asked for; it is cancelled otherwise. Raises what the work raises."""
    working, asking = asyncio.ensure_future(work), asyncio.ensure_future(asked.wait())
    try:
        await asyncio.wait([working, asking], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return False
        working.result()
        return True
    finally:
        for task in (working, asking):
            task.cancel()
        await asyncio.gather(working, asking, return_exceptions=True)
