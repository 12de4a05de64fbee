"""`vlaapi usage …`: compare roll-ups with the log, look at dead letters, try them again. For operators; included by `cli`."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from typing import Annotated, TypeVar

import asyncpg
import typer

from billing.segments import month_named
from control_plane.db import connect, database_errors
from control_plane.usage.archive.commands import audit
from control_plane.usage.dead_letters import KeptLetter, Reason, newest, take_out
from control_plane.usage.inference_logs import Outcome
from control_plane.usage.intake import Intake
from control_plane.usage.look import Places, look
from control_plane.usage.request_id import public_form

TIMEOUT_S = 600.0

_T = TypeVar("_T")


def create_commands(
    database_url: Callable[[], str],
    objects_url: Callable[[], str | None] = lambda: None,
    redis_url: Callable[[], str | None] = lambda: None,
) -> typer.Typer:
    """The sub-commands; the stores are asked for only when one of them runs. Raise DatabaseAwayError when it is away."""
    commands = typer.Typer(no_args_is_help=True, help="Check what was metered.")

    @commands.command("reconcile")
    def compare(
        month: Annotated[str | None, typer.Option(help="UTC month as YYYY-MM; the current one if left out.")] = None,
        repair: Annotated[
            bool, typer.Option("--repair", help="Make roll-ups again from the rows, and set Redis counters.")
        ] = False,
    ) -> None:
        """Compare a month's rows, roll-ups and (for the current one) Redis counters. Ends with 1 if they differ."""
        chosen = datetime.now(UTC).date() if month is None else _month(month)
        look(Places(database_url=database_url(), redis_url=redis_url()), chosen, is_repairing=repair)

    @commands.command("audit")
    def audit_(month: Annotated[str, typer.Option(help="UTC month as YYYY-MM.")]) -> None:
        """Derive a month again from its archived files; compare with roll-ups and invoices. Ends with 1 if anything differs."""
        audit(database_url(), objects_url(), _month(month))

    @commands.command("dead-letters")
    def letters(limit: Annotated[int, typer.Option(min=1, help="Show at most this many, newest first.")] = 50) -> None:
        """Show usage events that could not be recorded, and why."""
        for letter in asyncio.run(_with_database(database_url(), lambda database: newest(database, limit=limit))):
            typer.echo(_letter_line(letter))

    @commands.command("retry")
    def try_again(reason: Annotated[Reason, typer.Option(help="Only the letters with this reason.")]) -> None:
        """Try to record dead letters again, after their cause was removed. What still cannot be stays set aside."""
        outcome = asyncio.run(_with_database(database_url(), lambda database: retry(database, reason)))
        typer.echo(f"{outcome.recorded} recorded, {outcome.duplicates} had a row already, {len(outcome.dead)} set aside again")

    return commands


def _month(text: str) -> date:
    try:
        return month_named(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a month like 2026-11", param_hint="--month") from None


async def retry(database: "asyncpg.Connection", reason: Reason) -> Outcome:
    """Takes the letters with that reason in again, all in one transaction."""
    async with database.transaction():
        return await Intake().take(database, await take_out(database, reason), now=datetime.now(UTC))


async def _with_database(database_url: str, work: Callable[["asyncpg.Connection"], Awaitable[_T]]) -> _T:
    with database_errors():
        database = await connect(database_url, timeout_s=TIMEOUT_S, name="vlaapi-usage")
        try:
            return await work(database)
        finally:
            await database.close()


def _letter_line(letter: KeptLetter) -> str:
    request = "-" if letter.request_id is None else public_form(letter.request_id)
    return f"{letter.created_at:%Y-%m-%d %H:%M:%S}  {letter.reason:<16}  {request}  {letter.detail}"
