"""Progress bars for what takes over two seconds: on a terminal only, on standard error, gone when done.

Library code calls these with plain words and counts; it knows no command line.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Tick = Callable[[], None]


@contextmanager
def counted(what: str, total: int) -> Iterator[Tick]:
    """A bar that each call of the yielded function moves by one of `total`."""
    with _bar(BarColumn(), MofNCompleteColumn()) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner with the time so far, for one long step."""
    with _bar() as progress:
        progress.add_task(what, total=None)
        yield


def _bar(*columns: BarColumn | MofNCompleteColumn) -> Progress:
    console = Console(stderr=True)
    text = TextColumn("{task.description}")
    return Progress(
        SpinnerColumn(), text, *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
    )
