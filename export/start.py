"""Starts `vlaapi export`, so that Ctrl-C ends it with one line and exit code 130 at any moment, also while torch is imported.

It imports nothing of the exporter before it can be stopped, and knows no command. Run by `vlaapi` as `python -m export.start`.
"""

import signal
import sys
from types import FrameType

STOPPED = 130  # as a shell says that Ctrl-C ended a command


class Stopped(SystemExit):
    """Ctrl-C. No KeyboardInterrupt, which the command line and the progress bars would answer in their own ways."""


def main() -> None:
    """Runs the command that the process' arguments name."""
    signal.signal(signal.SIGINT, _stop)
    try:
        from export.__main__ import run

        run()
    except Stopped:
        sys.stderr.write("stopped by Ctrl-C\n")
        sys.exit(STOPPED)


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 -- as `signal` calls it
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one does not wait for anything to be cleared away
    raise Stopped(STOPPED)


if __name__ == "__main__":
    main()
