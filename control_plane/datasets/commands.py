"""`vlaapi data build`: words and output only; what happens is in `build.py`. Joined to `vlaapi data` by the composition root."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from control_plane.capture.commands import with_objects
from control_plane.datasets.built import Built
from control_plane.datasets.select import Asked
from control_plane.errors import ApiError
from control_plane.keys.terminal import AsJson, id_of, on_stores, print_json, print_lines
from control_plane.objects import ObjectStore


def add_build(commands: typer.Typer, objects_url: Callable[[], str | None]) -> None:
    """Adds the command."""

    @commands.command("build")
    def build_(
        ctx: typer.Context,
        out: Annotated[Path, typer.Option(help="Folder for OUT/train and OUT/held_out; one that is there is gone on with.")],
        since: Annotated[str | None, typer.Option(help="Only sessions from this UTC day or instant on.")] = None,
        until: Annotated[str | None, typer.Option(help="Only sessions before it.")] = None,
        task: Annotated[str | None, typer.Option(help="Only sessions whose instruction has these words.")] = None,
        model: Annotated[str | None, typer.Option(help="Only sessions with this policy.")] = None,
        robot: Annotated[str | None, typer.Option(help="Only this robot.")] = None,
        customer: Annotated[str | None, typer.Option(help="Only this customer, cus_….")] = None,
        only_success: Annotated[bool, typer.Option("--only-success", help="Only sessions whose feedback says success.")] = False,
        held_out: Annotated[float, typer.Option(min=0.0, max=0.9, help="Share of sessions kept apart for evaluation.")] = 0.1,
        fps: Annotated[
            int | None, typer.Option(min=1, max=1000, help="Frames per second; else the policy's control rate.")
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        """A LeRobotDataset v3 of what customers opted in to: resumable, deduplicated, split by session."""
        build = _build_verb()
        asked = Asked(
            since=_instant("since", since),
            until=_instant("until", until),
            task=task,
            model=model,
            robot_type=robot,
            customer_id=None if customer is None else id_of("customer", "cus", customer),
            only_success=only_success,
            held_out=held_out,
        )
        began = monotonic()
        with _disk_errors(out), _Bar() as bar:
            built = on_stores(
                ctx,
                lambda stores: with_objects(
                    objects_url, lambda there: build(stores.engine, _required(there), asked, out, fps=fps, told=bar.tell)
                ),
            )
        _print(_told(built, seconds=monotonic() - began), as_json=as_json)


def _build_verb() -> Callable[..., Awaitable[Built]]:
    """PyAV is slow to load, and only this command needs it."""
    try:
        from control_plane.datasets.build import build
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        missing = "building a dataset needs PyAV, which is not installed here: pip install av."
        raise ApiError("missing_field", missing, param="av") from None
    return build


@contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ApiError("invalid_field", f"{error.filename or out} cannot be written: {error.strerror}.", param="out") from None


def _print(told: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print_json(told)
    else:
        print_lines({name: _words(value) if isinstance(value, dict) else value for name, value in told.items()})


def _told(built: Built, *, seconds: float) -> dict[str, object]:
    frames = built.frames.total()
    return {
        "out": str(built.out),
        "episodes": dict(built.episodes),
        "frames": dict(built.frames),
        "skipped": dict(built.skipped),
        "rebuilt": built.is_rebuilt,
        "seconds": round(seconds, 1),
        "frames per second": round(frames / seconds, 1),
    }


class _Bar:
    """On the terminal only, and on stderr: stdout is for the result."""

    def __init__(self) -> None:
        words, console = TextColumn("{task.fields[frames]} frames"), Console(stderr=True)
        columns = (BarColumn(), MofNCompleteColumn(), words, TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("episodes", total=None, frames=0)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def tell(self, done: int, of: int, frames: int) -> None:
        """So far."""
        self._progress.update(self._task, completed=done, total=of, frames=frames)


def _words(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _required(objects: ObjectStore | None) -> ObjectStore:
    if objects is None:
        raise ApiError("missing_field", "there is no object store: set VLA_OBJECT_STORE_URL.", param="object_store_url")
    return objects


def _instant(name: str, text: str | None) -> datetime | None:
    try:
        at = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        raise ApiError("invalid_field", f"{name} must be a day or an instant such as 2026-11-27.", param=name) from None
    return at if at is None or at.tzinfo is not None else at.replace(tzinfo=UTC)
