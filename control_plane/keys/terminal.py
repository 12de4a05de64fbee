"""What the commands of `keys` and `customers` share: stores to work on, questions to a person, and output for people or programs.

A command gets its stores from the composition root (`cli.py`), as `ctx.obj`; only that one reads settings. Answers go to stdout,
questions and notes to stderr, so that `--json` can always be piped.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import typer

from control_plane.errors import ApiError
from control_plane.identity.public_id import parse_public_id
from control_plane.keys.verbs import Stores, no_such

_T = TypeVar("_T")

OpenStores = Callable[[], AbstractAsyncContextManager[Stores]]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]


def on_stores(ctx: typer.Context, work: Callable[[Stores], Awaitable[_T]]) -> _T:
    """Opens the stores, works, and closes them."""
    open_stores: OpenStores = ctx.obj

    async def run() -> _T:
        async with open_stores() as stores:
            return await work(stores)

    return asyncio.run(run())


def given_or_asked(value: str | None, *, field: str, question: str, clean: Callable[[str], str]) -> str:
    """What was given as an argument, or what a person at the terminal answers. A program gets an error instead of a question.

    An answer that `clean` refuses is asked for again at once; an argument that it refuses raises its ApiError.
    """
    if value is not None:
        return clean(value)
    if not is_terminal():
        option = field.replace("_", "-")
        raise ApiError("missing_field", f"{field} is missing; give --{option}.", param=field)
    answer: str = typer.prompt(question, err=True, value_proc=asking_again(clean))
    return answer


def asking_again(clean: Callable[[str], _T]) -> Callable[[str], _T]:
    """`clean` as typer's prompt wants it: what it refuses is told, and asked for again."""

    def read(answer: str) -> _T:
        try:
            return clean(answer)
        except ApiError as fault:
            raise typer.BadParameter(fault.message) from None

    return read


def is_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def id_of(what: str, prefix: str, text: str) -> UUID:
    """The UUID in `cus_…` or `key_…`."""
    id_ = parse_public_id(prefix, text)
    if id_ is None:
        raise no_such(what, repr(text))
    return id_


def print_json(value: Mapping[str, Any]) -> None:
    """One object; instants as ISO 8601."""
    typer.echo(json.dumps(value, default=_plain, ensure_ascii=False))


def print_lines(rows: Mapping[str, object]) -> None:
    """Names and values, aligned."""
    width = max(len(name) for name in rows)
    for name, value in rows.items():
        typer.echo(f"{name:<{width}}  {value}")


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Columns as wide as they need to be, their names on top."""
    if not rows:
        return
    cells = [list(rows[0])] + [[_cell(value) for value in row.values()] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    for line in cells:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def tell_if_unheard(*, is_announced: bool) -> None:
    """A note for the operator when running processes could not be told."""
    if not is_announced:
        typer.echo("note: Redis cannot be reached; it is done, and running processes will notice within 5 s.", err=True)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else str(value)
