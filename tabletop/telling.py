"""What the commands of `vlaapi tabletop` share: where things are kept, and how they speak.

It knows neither simulator nor network.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "tabletop"
BUNDLES = ROOT / "model_repository"
console = Console()
_LINE_EVERY_S = 10.0


def say(text: str) -> None:
    """A line for the reader, as it is."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def fail(error: Exception | str) -> int:
    """Says what went wrong in one line; the exit status."""
    console.print(str(error).replace("\n", " "), style="red", highlight=False, soft_wrap=True, markup=False)
    return 1


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """A progress bar; on a file or pipe, a line every ten seconds."""
    told = TextColumn("{task.fields[told]}")
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), told)
    said_at = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total, told="")

        def show(done: int, told: str) -> None:
            nonlocal said_at
            progress.update(task, completed=done, told=told)
            if not console.is_terminal and time.monotonic() - said_at > _LINE_EVERY_S:
                said_at = time.monotonic()
                say(f"{what} {done}/{total}: {told}")

        yield show
