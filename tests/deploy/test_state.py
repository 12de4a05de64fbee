"""The state folder: one owner, private files, clear refusals."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from deploy.embedded.server import StartError
from deploy.embedded.state import (
    AlreadyRunningError,
    State,
    close_state,
    open_state,
    owned,
    owner_of,
    read_secrets,
    rotate,
    write_private,
)

_HOLD = """
import sys
from pathlib import Path
from deploy.embedded.state import open_state, owned
with owned(open_state(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """A state folder that nobody owns yet."""
    state = open_state(tmp_path / "state")
    yield state
    close_state(state)


def test_secrets_are_made_once_and_are_private(state: State) -> None:
    first = read_secrets(state)
    assert read_secrets(open_state(state.root)) == first
    assert (state.root / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert state.root.stat().st_mode & 0o777 == 0o700
    assert len(first.key_pepper) >= 32


def test_broken_secrets_are_refused_instead_of_being_made_anew(state: State) -> None:
    write_private(state.root / "secrets.json", b"{}")
    with pytest.raises(StartError, match=r"secrets\.json: cannot be read as secrets"):
        read_secrets(state)


def test_a_folder_of_the_release_before_gets_the_secret_of_the_object_store_and_keeps_the_others(state: State) -> None:
    path = state.root / "secrets.json"
    kept = asdict(read_secrets(state))
    before = {name: value for name, value in kept.items() if name != "object_store_secret_key"}
    write_private(path, json.dumps(before).encode())
    first = read_secrets(state)
    assert asdict(first) | before == asdict(first)
    assert read_secrets(state) == first


def test_a_second_owner_is_refused_with_the_pid_of_the_first(state: State) -> None:
    root = state.root
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        assert owner_of(root) == first.pid
        with (
            pytest.raises(AlreadyRunningError, match=f"already running \\(pid {first.pid}\\).*vlaapi down"),
            owned(open_state(root)),
        ):
            pass
        first.kill()
        first.wait()
    assert owner_of(root) is None
    with owned(state):
        assert owner_of(root) == os.getpid()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StartError, match=r"Permission denied; set VLA_STATE_DIR"):
        open_state(tmp_path / "state")


def test_a_path_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(StartError, match=r"state: File exists; set VLA_STATE_DIR"):
        open_state(tmp_path / "state")


def test_sockets_lie_in_a_short_private_folder_even_for_a_long_path(tmp_path: Path) -> None:
    state = open_state(tmp_path / ("long" * 40))
    assert len(os.fsencode(state.sockets / "api-64")) < 108
    assert state.sockets.stat().st_mode & 0o777 == 0o700
    state.sockets.chmod(0o755)
    with pytest.raises(StartError, match="not a private folder of this user"):
        open_state(state.root)
    close_state(state)
    assert not state.sockets.exists()


def test_a_log_that_has_grown_is_moved_aside_once(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    for text in ("first life", "second life"):
        log.write_text(text)
        rotate(log, keep_bytes=5)
    assert not log.exists()
    assert (tmp_path / "a.log.1").read_text() == "second life"
    log.write_text("tiny")
    rotate(log, keep_bytes=5)
    assert log.read_text() == "tiny"
