"""What is said on the terminal: only what is new, and a line that can be pasted."""

import io
import shlex

import pytest
from rich.console import Console

from deploy.embedded.screen import LineScreen, TableScreen, describe, welcome
from deploy.embedded.status import Phase, ServerState, ServerStatus, Status


def status(state: Phase, **servers: ServerStatus) -> Status:
    return Status(
        state=state, supervisor_pid=7, url="http://127.0.0.1:8080", demo_key="vla_live_x", ready_after_s=1.5, servers=servers
    )


READY = ServerStatus(state=ServerState.READY, pid=11, ready_after_s=0.3)


def test_the_curl_line_can_be_pasted() -> None:
    (line,) = [line for line in welcome(status(Phase.READY)).splitlines() if "curl" in line]
    words = shlex.split(line.partition("curl")[2])
    assert words[1] == "http://127.0.0.1:8080/v1/inference"
    assert "Authorization: Bearer vla_live_x" in words
    assert "instruction=pick up red cube" in words
    (image,) = [word for word in words if word.startswith("image=@")]
    assert image.endswith("examples/tabletop.png")


def test_lines_say_only_what_is_new(capsys: pytest.CaptureFixture[str]) -> None:
    screen = LineScreen()
    screen.show(status(Phase.STARTING, postgres=ServerStatus(state=ServerState.STARTING)))
    screen.show(status(Phase.STARTING, postgres=READY))
    screen.show(status(Phase.STARTING, postgres=READY))
    assert capsys.readouterr().out.splitlines() == ["  postgres   ready after 0.3 s"]


def test_who_stops_a_running_service_is_not_welcomed_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    screen = LineScreen()
    screen.adopt(status(Phase.READY, nginx=READY))
    screen.show(status(Phase.READY, nginx=READY))
    screen.show(status(Phase.STOPPING, nginx=ServerStatus(state=ServerState.STOPPED)))
    assert capsys.readouterr().out == "  nginx      stopped\n"


def test_a_table_ends_in_the_same_welcome(capsys: pytest.CaptureFixture[str]) -> None:
    screen = TableScreen(Console(file=io.StringIO(), force_terminal=True, width=100))
    screen.show(status(Phase.STARTING, nginx=ServerStatus(state=ServerState.STARTING)))
    screen.show(status(Phase.READY, nginx=READY))
    assert "curl" in capsys.readouterr().out
    screen.show(status(Phase.STOPPING, nginx=ServerStatus(state=ServerState.STOPPED)))
    screen.close()
    assert capsys.readouterr().out == "  nginx      stopped\n"


def test_a_restart_is_said_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    screen = LineScreen()
    screen.show(status(Phase.READY, valkey=READY))
    capsys.readouterr()
    again = ServerStatus(state=ServerState.RESTARTING, restarts=1, detail="killed by SIGKILL; again in 0.2 s")
    screen.show(status(Phase.READY, valkey=again))
    assert capsys.readouterr().out == "  valkey     restarting, restarted 1×: killed by SIGKILL; again in 0.2 s\n"


def test_a_status_names_every_server_with_its_process() -> None:
    text = describe(status(Phase.READY, postgres=READY, nginx=ServerStatus(state=ServerState.GIVEN_UP, detail="flaps")))
    assert "vlaapi is ready at http://127.0.0.1:8080 (supervisor pid 7)" in text
    assert "pid 11" in text
    assert "given up: flaps" in text
    assert "vla_live_x" in text
