"""`vlaapi revenue report` and `vlaapi billing check`: what the business earns, and whether the books are true. Output only."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from billing.segments import month_named
from control_plane.db import create_engine
from control_plane.revenue.figures import Figures, read_figures
from control_plane.revenue.open_month import refresh
from control_plane.revenue.page import as_html
from control_plane.revenue.tables import as_csv
from control_plane.revenue.terminal import print_report
from control_plane.revenue.truths import EVER, Violation, check

TIMEOUT_S = 600.0

Url = Callable[[], str]


def create_revenue_commands(database_url: Url) -> typer.Typer:
    """The database is asked for only when a command runs. Raise DatabaseAwayError when it is away."""
    commands = typer.Typer(no_args_is_help=True, help="What the business earns.")

    @commands.callback()
    def revenue() -> None:
        """What the business earns."""

    @commands.command("report")
    def report(
        month: Annotated[str | None, typer.Option(help="UTC month as YYYY-MM; the current one if left out.")] = None,
        out: Annotated[Path | None, typer.Option(help="Write HTML and CSV files into this folder.")] = None,
    ) -> None:
        """A month's revenue: a table here, and with --out a page with charts and CSV files."""
        chosen = datetime.now(UTC).date() if month is None else month_of(month)
        figures = asyncio.run(_figures(database_url(), chosen))
        print_report(figures, Console())
        if out is not None:
            for path in _write(out, figures):
                typer.echo(f"wrote {path}")

    return commands


def create_billing_commands(database_url: Url) -> typer.Typer:
    """As above."""
    commands = typer.Typer(no_args_is_help=True, help="Whether the books are true.")

    @commands.callback()
    def billing() -> None:
        """Whether the books are true."""

    @commands.command("check")
    def check_(
        since: Annotated[
            str | None, typer.Option(help="Read rows and invoices from this month (YYYY-MM) on; all if left out.")
        ] = None,
    ) -> None:
        """Look at every truth of billing. Ends with 1 if one does not hold."""
        found = asyncio.run(_checked(database_url(), EVER if since is None else month_of(since)))
        for name, violations in found.items():
            typer.echo(f"{'ok  ' if not violations else 'BAD '} {name}")
            for violation in violations:
                typer.echo(f"       {violation.detail}")
        raise typer.Exit(1 if any(found.values()) else 0)

    return commands


def month_of(text: str) -> date:
    """Raises BadParameter for anything but YYYY-MM."""
    try:
        return month_named(text)
    except ValueError:
        raise typer.BadParameter(f"{escape(repr(text))} is not a month like 2026-11") from None


async def _figures(database_url: str, month: date) -> Figures:
    engine = create_engine(database_url, pool_size=1, timeout_s=TIMEOUT_S)
    try:
        await refresh(engine)
        return await read_figures(engine, month)
    finally:
        await engine.dispose()


async def _checked(database_url: str, since: date) -> Mapping[str, list[Violation]]:
    engine = create_engine(database_url, pool_size=1, timeout_s=TIMEOUT_S)
    try:
        return await check(engine, since=since)
    finally:
        await engine.dispose()


def _write(folder: Path, figures: Figures) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"revenue-{figures.month:%Y-%m}"
    page = folder / f"{name}.html"
    page.write_text(as_html(figures), encoding="utf-8")
    paths = [page]
    for kind, text in as_csv(figures).items():
        path = folder / f"{name}-{kind}.csv"
        path.write_text(text, encoding="utf-8", newline="")
        paths.append(path)
    return paths
