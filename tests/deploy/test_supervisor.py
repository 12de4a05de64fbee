"""The supervisor with real child processes: order, restarts, stop, and what is left when it is killed itself."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest

from deploy.embedded.server import NotReadyError, Server, StartError
from deploy.embedded.status import ServerState
from deploy.embedded.supervisor import Restarts, Supervisor

# Writes its name into the journal, says that it is ready by making a file, and leaves in the way its arguments say.
_PROGRAM = """
import os, signal, sys
from pathlib import Path
name, folder, manner = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
def note(word):
    with (folder / "journal").open("a") as journal:
        journal.write(f"{word} {name}\\n")
def leave(number, frame):
    note(f"{signal.Signals(number).name}")
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if manner == "deaf" else leave)
signal.signal(signal.SIGQUIT, leave)
note("start")
if manner == "fails":
    sys.exit("cannot go on like this")
if manner == "parent":
    child = os.fork()
    if child == 0:
        signal.pause()
    (folder / "grandchild").write_text(str(child))
(folder / f"{name}.ready").touch()
signal.pause()
"""


@dataclass(slots=True)
class Workshop:
    """Makes servers out of the program above and remembers the supervisor's changes."""

    folder: Path
    changes: asyncio.Queue[None] = field(default_factory=asyncio.Queue)

    def server(self, name: str, *, manner: str = "good", depends_on: tuple[str, ...] = ()) -> Server:
        """A server; it is ready when it says so."""
        ready = self.folder / f"{name}.ready"

        async def check(_: int) -> None:
            if not ready.exists():
                raise NotReadyError("no file yet")

        return Server(
            name=name,
            argv=(sys.executable, "-c", _PROGRAM, name, str(self.folder), manner),
            environment={},
            folder=self.folder,
            prepare=lambda: ready.unlink(missing_ok=True),
            check=check,
            depends_on=depends_on,
            stop_timeout_s=0.3 if manner == "deaf" else 5.0,
        )

    @property
    def journal(self) -> list[str]:
        """What the servers wrote, in order."""
        path = self.folder / "journal"
        return path.read_text().splitlines() if path.exists() else []

    @asynccontextmanager
    async def supervised(self, *ranks: Sequence[Server], restarts: Restarts | None = None) -> AsyncIterator[Supervisor]:
        """Everything started; stopped at the end."""
        supervisor = self.supervisor(*ranks, restarts=restarts)
        try:
            await supervisor.start()
            yield supervisor
        finally:
            await supervisor.stop()

    def supervisor(self, *ranks: Sequence[Server], restarts: Restarts | None = None) -> Supervisor:
        """Not started yet."""
        changed = lambda: self.changes.put_nowait(None)  # noqa: E731 -- short
        return Supervisor(ranks, log_of=lambda name: self.folder / f"{name}.log", changed=changed, restarts=restarts)

    async def until(self, supervisor: Supervisor, name: str, state: ServerState, *, restarts: int = 0) -> None:
        """Waits for a change after which the server is in that state, restarted at least so often."""
        async with asyncio.timeout(20):
            while (now := supervisor.servers[name]).state is not state or now.restarts < restarts:
                await self.changes.get()


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """A folder for the servers of one test."""
    return Workshop(tmp_path)


async def until_gone(pids: Sequence[int]) -> None:
    """Returns when none of them lives any more."""
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, left = await asyncio.to_thread(psutil.wait_procs, processes, 20)
    assert left == []


async def test_servers_start_when_what_they_need_is_ready_and_stop_in_reverse(workshop: Workshop) -> None:
    store, door = workshop.server("store"), workshop.server("door", depends_on=("api-1", "api-2"))
    api = [workshop.server(name, depends_on=("store",)) for name in ("api-1", "api-2")]
    async with workshop.supervised([store], api, [replace(door, stop_signal=signal.SIGQUIT)]) as supervisor:
        assert {status.state for status in supervisor.servers.values()} == {ServerState.READY}
        started = workshop.journal
    assert started[0] == "start store"
    assert started[-1] == "start door"
    stopped = workshop.journal[4:]
    assert stopped[0] == "SIGQUIT door"
    assert set(stopped[1:3]) == {"SIGTERM api-1", "SIGTERM api-2"}
    assert stopped[3] == "SIGTERM store"
    assert {status.pid for status in supervisor.servers.values()} == {None}


async def test_a_killed_server_is_restarted_and_the_others_are_left_alone(workshop: Workshop) -> None:
    async with workshop.supervised([workshop.server("store")], [workshop.server("api", depends_on=("store",))]) as supervisor:
        before = supervisor.servers
        os.kill(before["store"].pid or 0, signal.SIGKILL)
        await workshop.until(supervisor, "store", ServerState.READY, restarts=1)
        after = supervisor.servers
        assert after["store"].restarts == 1
        assert after["store"].pid != before["store"].pid
        assert after["api"] == before["api"]


async def test_what_a_killed_server_had_started_itself_goes_with_it(workshop: Workshop) -> None:
    async with workshop.supervised([workshop.server("parent", manner="parent")]) as supervisor:
        grandchild = int((workshop.folder / "grandchild").read_text())
        os.kill(supervisor.servers["parent"].pid or 0, signal.SIGKILL)
        await workshop.until(supervisor, "parent", ServerState.READY, restarts=1)
        await until_gone([grandchild])


async def test_a_server_that_flaps_is_given_up_with_its_reason(workshop: Workshop) -> None:
    restarts = Restarts(first_pause_s=0.01, longest_pause_s=0.02, give_up_after=2)
    server = workshop.server("flaps")
    async with workshop.supervised([server], restarts=restarts) as supervisor:
        for number in range(3):
            await workshop.until(supervisor, "flaps", ServerState.READY, restarts=number)
            os.kill(supervisor.servers["flaps"].pid or 0, signal.SIGKILL)
        await workshop.until(supervisor, "flaps", ServerState.GIVEN_UP)
        assert supervisor.servers["flaps"].detail == "killed by SIGKILL; given up after 2 restarts"


def test_pauses_double_up_to_a_longest() -> None:
    restarts = Restarts(first_pause_s=0.2, longest_pause_s=1.0)
    assert [restarts.pause_s(failures) for failures in (1, 2, 3, 4, 50)] == [0.2, 0.4, 0.8, 1.0, 1.0]


async def test_a_first_start_that_fails_is_refused_with_the_last_words_of_the_log(workshop: Workshop) -> None:
    supervisor = workshop.supervisor([workshop.server("good")], [workshop.server("bad", manner="fails")])
    try:
        with pytest.raises(StartError, match=r"bad: ended while starting .*cannot go on like this .*bad\.log"):
            await supervisor.start()
    finally:
        await supervisor.stop()
    assert workshop.journal.count("start bad") == 1


async def test_a_start_does_not_wait_for_a_server_that_nobody_needs_and_goes_on_without_it(workshop: Workshop) -> None:
    spare = replace(workshop.server("spare", manner="fails"), is_awaited=False)
    restarts = Restarts(first_pause_s=0.01, longest_pause_s=0.02, give_up_after=2)
    async with workshop.supervised([workshop.server("good"), spare], restarts=restarts) as supervisor:
        assert supervisor.servers["good"].state is ServerState.READY
        await workshop.until(supervisor, "spare", ServerState.GIVEN_UP)
        assert "cannot go on like this" in (supervisor.servers["spare"].detail or "")
        assert supervisor.servers["good"].state is ServerState.READY


async def test_a_server_that_ignores_its_signal_is_killed_after_its_time(workshop: Workshop) -> None:
    async with workshop.supervised([workshop.server("deaf", manner="deaf")]) as supervisor:
        pid = supervisor.servers["deaf"].pid or 0
    assert not psutil.pid_exists(pid)


async def test_a_server_is_replaced_and_one_that_ignores_its_signal_is_killed_for_it_and_that_is_told(workshop: Workshop) -> None:
    async with workshop.supervised([workshop.server("good")], [workshop.server("deaf", manner="deaf")]) as supervisor:
        before = supervisor.servers
        assert await supervisor.replace("good") is None
        pid = before["deaf"].pid
        told = f"deaf: pid {pid} did not end within 0.3 s of SIGTERM, and was killed"
        assert await supervisor.replace("deaf") == told
        assert f"vlaapi: {told}\n" in (workshop.folder / "deaf.log").read_text()
        for name, now in supervisor.servers.items():
            assert (now.state, now.restarts, now.pid == before[name].pid) == (ServerState.READY, 0, False)
            assert not psutil.pid_exists(before[name].pid or 0)
    assert workshop.journal[2] == "SIGTERM good"


async def test_a_replacement_that_does_not_come_up_says_why_and_the_server_is_tried_again(workshop: Workshop) -> None:
    """What it needs is gone for a moment: nobody waits for a time-out, and the next replacement is a new one."""
    bad = workshop.folder / "bad"
    server = workshop.server("api")
    program = f"import os, sys; os.path.exists({str(bad)!r}) and sys.exit('no room'); exec(sys.argv.pop(1))"
    server = replace(server, argv=(sys.executable, "-c", program, *server.argv[2:]))
    async with workshop.supervised([server]) as supervisor:
        bad.touch()
        with pytest.raises(StartError, match=r"api: .*no room.*; again in"):
            await supervisor.replace("api")
        bad.unlink()
        await workshop.until(supervisor, "api", ServerState.READY)
        assert await supervisor.replace("api") is None


async def test_a_server_that_no_longer_answers_is_restarted(workshop: Workshop) -> None:
    server = replace(workshop.server("mute"), probe_every_s=0.05)
    async with workshop.supervised([server]) as supervisor:
        (workshop.folder / "mute.ready").unlink()
        await workshop.until(supervisor, "mute", ServerState.READY, restarts=1)


async def test_a_one_shot_step_is_done_when_it_has_ended_well(workshop: Workshop) -> None:
    step = replace(workshop.server("step"), argv=(sys.executable, "-c", "print('done')"), is_one_shot=True)
    async with workshop.supervised([step], [workshop.server("api", depends_on=("step",))]) as supervisor:
        assert supervisor.servers["step"].state is ServerState.DONE
        assert supervisor.servers["step"].restarts == 0


async def test_a_one_shot_step_that_fails_refuses_the_start(workshop: Workshop) -> None:
    step = replace(workshop.server("step"), argv=(sys.executable, "-c", "raise SystemExit('no schema')"), is_one_shot=True)
    supervisor = workshop.supervisor([step], [workshop.server("api", depends_on=("step",))])
    try:
        with pytest.raises(StartError, match=r"step: ended with exit status 1: no schema"):
            await supervisor.start()
    finally:
        await supervisor.stop()
    assert "start api" not in workshop.journal
