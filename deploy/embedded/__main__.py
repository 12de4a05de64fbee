"""The commands of the one-command stack: up, down, status, logs. Thin: what they do is in run, state, status and screen."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console

from control_plane.settings import variable
from deploy.embedded.run import REFUSALS, REPLACED_BY, live
from deploy.embedded.screen import LineScreen, Screen, create_screen, describe
from deploy.embedded.settings import ROOT, EmbeddedSettings, load_embedded
from deploy.embedded.stack import Site
from deploy.embedded.state import AlreadyRunningError, State, open_state, owned, owner_of
from deploy.embedded.status import Phase, Status, end_leftovers, read_status
from deploy.embedded.watch import watch

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

_POLL_S = 0.05
_LONGEST_STOP_S = 100.0
_LONGEST_REPLACEMENT_S = 120.0
_NOT_RUNNING = 3


@app.command()
def up(
    *,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return as soon as it is ready; it goes on in the background.")
    ] = False,
    background: Annotated[bool, typer.Option("--background", hidden=True, help="Be the process that goes on.")] = False,
) -> None:
    """Start the whole service on this machine and show when it is ready."""
    try:
        settings = load_embedded(os.environ)
        state = open_state(settings.state_dir)
        if detach:
            _wait_for_background(state)
            return
        with owned(state):
            _live(settings, state, _Silent() if background else create_screen())
        if not background:
            typer.echo("vlaapi is stopped")
    except REFUSALS as error:
        _refuse(str(error))


def _live(settings: EmbeddedSettings, state: State, screen: Screen) -> None:
    try:
        asyncio.run(live(Site(settings=settings, state=state, environment=dict(os.environ)), screen.show))
    finally:
        screen.close()


class _Silent:
    """A background process shows nothing: `status.json` is read instead."""

    def show(self, status: Status) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _wait_for_background(state: State) -> None:
    if (pid := owner_of(state.root)) is not None:
        raise AlreadyRunningError(state.root, pid)
    environment = {**os.environ, variable("state_dir"): str(state.root), "PYTHONPATH": str(ROOT)}
    with state.log("supervisor").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "deploy.embedded", "up", "--background"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    screen = create_screen()
    try:
        status = _follow(state, child, screen)
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise
    finally:
        screen.close()
    if status is None or status.state is not Phase.READY:
        child.wait()
        _refuse(state.log("supervisor").read_text().strip().removeprefix("vlaapi: ") or "it ended without a word")


def _follow(state: State, child: subprocess.Popen[bytes], screen: Screen) -> Status | None:
    """Shows the child's status until it is ready or over."""
    shown: Status | None = None
    while True:
        is_over = child.poll() is not None
        status = read_status(state.root)
        if status is not None and status.supervisor_pid == child.pid and status != shown:
            shown = status
            screen.show(status)
        if is_over or (shown is not None and shown.state is Phase.READY):
            return shown
        time.sleep(_POLL_S)


@app.command()
def down() -> None:
    """Stop everything, in order."""
    root = _root()
    if (pid := owner_of(root)) is None:
        if root.exists():
            end_leftovers(root)
        typer.echo("vlaapi is not running")
        return
    began, screen = time.monotonic(), LineScreen()
    if (before := read_status(root)) is not None:
        screen.adopt(before)
    os.kill(pid, signal.SIGTERM)
    is_over = False
    while not is_over:
        is_over = owner_of(root) != pid  # asked before the status is read, so that the last one is shown too
        if (status := read_status(root)) is not None:
            screen.show(status)
        if time.monotonic() - began > _LONGEST_STOP_S:
            _refuse(f"the supervisor (pid {pid}) did not end within {_LONGEST_STOP_S:g} s")
        time.sleep(_POLL_S)
    typer.echo(f"vlaapi is stopped after {time.monotonic() - began:.1f} s")


class Replaced(StrEnum):
    """What can be replaced while the service runs."""

    API = "api"
    WORKER = "worker"


@app.command()
def restart(
    what: Annotated[Replaced, typer.Argument(help="Which processes.")],
) -> None:
    """Replace the API processes, or the worker, by new ones: one after another, while requests are answered."""
    root = _root()
    pid, before = owner_of(root), read_status(root)
    if pid is None or before is None or before.state is not Phase.READY:
        _refuse("vlaapi is not running, or not ready yet")
    names = [name for name in before.servers if name.startswith(what.value)]
    if what is Replaced.API and len(names) < 2:
        _refuse("the only API process cannot be replaced without a gap: VLA_API_PROCESSES=2, or `vlaapi down` and `vlaapi up`")
    number, prefix = next((number, prefix) for number, prefix in REPLACED_BY.items() if prefix.startswith(what.value))
    seen = before.replacements.get(prefix)
    os.kill(pid, number)
    _follow_replacement(root, prefix, after=0 if seen is None else seen.number)


def _follow_replacement(root: Path, prefix: str, *, after: int) -> None:
    """Tells of the first replacement after that one. One of another kind may have to end before it begins."""
    told, moved_at = 0, time.monotonic()
    while time.monotonic() - moved_at < _LONGEST_REPLACEMENT_S:
        status = read_status(root)
        if status is None or status.state is not Phase.READY:
            _refuse("the service was stopped meanwhile")
        now = status.replacements.get(prefix)
        if now is not None and now.number > after:
            for line in now.told[told:]:
                typer.echo(line)
                told, moved_at = told + 1, time.monotonic()
            if now.fault is not None:
                _refuse(now.fault)
            if now.is_over:
                return
        time.sleep(_POLL_S)
    _refuse(f"nothing was replaced for {_LONGEST_REPLACEMENT_S:g} s; see `vlaapi status`")


@app.command()
def status(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    is_watching: Annotated[bool, typer.Option("--watch", help="Go on: the Operations numbers, live, until Ctrl-C.")] = False,
) -> None:
    """What runs, where, and the demo customer's key. Exit status 3 when it is not running."""
    root = _root()
    pid = owner_of(root)
    found = read_status(root)
    if pid is None or found is None or found.supervisor_pid != pid:
        typer.echo(
            json.dumps({"state": "stopped", "url": None, "demo_key": None, "servers": {}}) if as_json else "vlaapi is not running"
        )
        raise typer.Exit(_NOT_RUNNING)
    if is_watching:
        with contextlib.suppress(KeyboardInterrupt):
            watch(root, Console(), is_over=lambda: owner_of(root) is None)
        return
    typer.echo(msgspec.json.encode(found).decode() if as_json else describe(found))


@app.command()
def logs(
    name: Annotated[str | None, typer.Argument(help="A server, `access` or `supervisor`.")] = None,
    *,
    lines: Annotated[int, typer.Option("-n", help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("-f", help="Go on as lines come.")] = False,
) -> None:
    """The log of one server; without a name, which logs there are."""
    folder = _root() / "logs"
    there = sorted(path.stem for path in folder.glob("*.log"))
    if name is None:
        typer.echo("\n".join(there) or "there are no logs yet")
        return
    if name not in there:
        _refuse(f"there is no log {name!r}; there are: {', '.join(there) or 'none'}")
    words = ["tail", "-n", str(lines), *(["-F"] if follow else []), str(folder / f"{name}.log")]
    os.execvp("tail", words)  # noqa: S606 -- no shell


def _root() -> Path:
    try:
        return load_embedded(os.environ).state_dir
    except REFUSALS as error:
        _refuse(str(error))


def _refuse(text: str) -> NoReturn:
    for line in text.splitlines():
        typer.echo(f"vlaapi: {line}", err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
