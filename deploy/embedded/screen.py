"""Progress on the terminal: a live table where there is one, plain lines where the output goes elsewhere.

Shows a Status whenever it changes; the same in the foreground and for a waiting `up --detach`. Decides nothing.
"""

import os
import shlex
import sys
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table

from deploy.embedded.question import EXAMPLE_IMAGE, EXAMPLE_INSTRUCTION
from deploy.embedded.status import Phase, ServerState, ServerStatus, Status

_UNSPOKEN = {ServerState.WAITING, ServerState.STARTING, ServerState.STOPPING}  # in lines; what follows says it better

_SIGNS = {
    ServerState.WAITING: ("·", "dim"),
    ServerState.STARTING: ("…", "yellow"),
    ServerState.READY: ("✓", "green"),
    ServerState.DONE: ("✓", "green"),
    ServerState.RESTARTING: ("↻", "yellow"),
    ServerState.GIVEN_UP: ("✗", "red"),
    ServerState.STOPPING: ("…", "yellow"),
    ServerState.STOPPED: ("·", "dim"),
}


class Screen(Protocol):
    """Shows one status after the other."""

    def show(self, status: Status) -> None:
        """Called at every change."""

    def close(self) -> None:
        """Leaves the terminal as it was found."""


def create_screen() -> Screen:
    """The one that fits standard output."""
    return TableScreen(Console()) if sys.stdout.isatty() else LineScreen()


class TableScreen:
    """A table that is redrawn in place while things start or stop, and lines in between."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._lines = LineScreen()

    def show(self, status: Status) -> None:
        """Redraws the table, or prints what is new."""
        if status.state in {Phase.READY, Phase.STOPPED, Phase.FAILED} or self._lines.was_ready:
            self.close(status)
            self._lines.show(status)
            return
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(table(status), refresh=True)

    def close(self, status: Status | None = None) -> None:
        """Stops redrawing; the last table stays."""
        if self._live is not None:
            if status is not None:
                self._live.update(table(status), refresh=True)
                self._lines.note(status)
            self._live.stop()
            self._live = None


class LineScreen:
    """One line per change of a server."""

    def __init__(self) -> None:
        self.was_ready = False
        self._seen: dict[str, tuple[ServerState, int]] = {}

    def show(self, status: Status) -> None:
        """Prints what differs from the last one."""
        for name, server in status.servers.items():
            if self._seen.get(name) != (server.state, server.restarts) and server.state not in _UNSPOKEN:
                _print(f"  {name:<10} {_words(server)}")
        if status.state is Phase.READY and not self.was_ready:
            _print(welcome(status))
        self.adopt(status)

    def adopt(self, status: Status) -> None:
        """Takes a status as known: neither its servers nor that it is ready will be said again."""
        self.was_ready = self.was_ready or status.state is Phase.READY
        self.note(status)

    def note(self, status: Status) -> None:
        """Takes its servers as known, as a table has shown them."""
        self._seen = {name: (server.state, server.restarts) for name, server in status.servers.items()}

    def close(self) -> None:
        """Nothing to undo."""


def welcome(status: Status) -> str:
    """The address, the demo customer's key and a line that can be pasted."""
    image = os.path.relpath(EXAMPLE_IMAGE)
    curl = (
        f"curl -s {status.url}/v1/inference -H {shlex.quote(f'Authorization: Bearer {status.demo_key}')} "
        f"-F {shlex.quote(f'image=@{image}')} -F {shlex.quote(f'instruction={EXAMPLE_INSTRUCTION}')}"
    )
    return (
        f"\nvlaapi is ready after {status.ready_after_s:g} s\n\n"
        f"  URL       {status.url}\n  demo key  {status.demo_key}\n  try it    {curl}\n"
        "  status    vlaapi status · logs: vlaapi logs · stop: vlaapi down (or Ctrl-C here)\n"
        + "".join(f"  note      {note}\n" for note in status.notes)
    )


def describe(status: Status) -> str:
    """The whole status as text, for `vlaapi status`."""
    rows = [
        f"  {name:<12} {_words(server):<28} {'' if server.pid is None else f'pid {server.pid}'}"
        for name, server in status.servers.items()
    ]
    head = f"vlaapi is {status.state.value} at {status.url} (supervisor pid {status.supervisor_pid})"
    key = f"\n  demo key   {status.demo_key}" if status.demo_key else ""
    return "\n".join([head, *(row.rstrip() for row in rows), *(f"  note: {note}" for note in status.notes)]) + key


def _words(server: ServerStatus) -> str:
    words = server.state.value.replace("_", " ")
    if server.state in {ServerState.READY, ServerState.DONE}:
        words += f" after {server.ready_after_s:g} s"
    if server.restarts:
        words += f", restarted {server.restarts}×"
    return f"{words}: {server.detail}" if server.detail else words


def table(status: Status) -> Table:
    """Every server with its state, a line each."""
    rows = Table.grid(padding=(0, 2))
    for name, server in status.servers.items():
        sign, style = _SIGNS[server.state]
        rows.add_row(f"[{style}]  {sign}[/]", name, f"[{style}]{_words(server)}[/]")
    return rows


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
