"""Starts one server as a child process and ends it together with everything it started itself.

Used by the supervisor and by the test fixtures. Call `spawn` from the main thread: the kernel's parent-death signal fires when
the spawning *thread* ends. Knows nothing of order, restarts or readiness.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from deploy.embedded.server import Server

_SHIM = Path(__file__).with_name("shim.py")


def spawn(server: Server, *, log: Path) -> subprocess.Popen[bytes]:
    """The running child, its output appended to `log`. Its pid is also its process group."""
    argv = [sys.executable, "-I", "-S", str(_SHIM), str(os.getpid()), str(int(server.stop_signal)), *server.argv]
    with log.open("ab") as output:
        return subprocess.Popen(
            argv,
            env=dict(server.environment),
            cwd=server.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def stop(server: Server, process: subprocess.Popen[bytes]) -> int:
    """Asks, waits, then insists. Returns the exit status."""
    if process.poll() is None:
        process.send_signal(server.stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(server.stop_timeout_s)
    return bury(server, process)


def bury(server: Server, process: subprocess.Popen[bytes]) -> int:
    """Ends at once what is left of the child's process group, also after the child itself is gone. Returns its exit status."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    status = process.wait()
    server.tidy(process.pid)
    return status
