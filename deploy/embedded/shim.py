"""Ties a child to its supervisor, then becomes the real server: `python -I -S shim.py PARENT_PID SIGNAL argv…`.

The child leads a session of its own (the terminal's Ctrl-C does not reach it, and its whole group can be signalled), and the
kernel sends it SIGNAL when the supervisor dies, however it dies. Standard library only: it runs before every server.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main(parent_pid: int, signal_number: int, argv: list[str]) -> None:
    """Never returns: the process image becomes `argv`."""
    os.setsid()
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal_number) != 0:
        sys.exit(f"shim: prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent_pid:  # it died before the line above could take effect
        sys.exit("shim: the supervisor is gone")
    try:
        os.execvp(argv[0], argv)  # noqa: S606 -- the argv of a Server, no shell
    except OSError as error:
        sys.exit(f"shim: {argv[0]}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
