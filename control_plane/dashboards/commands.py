"""`vlaapi dashboards login`: the database user of Grafana. Words and output only."""

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Annotated
from urllib.parse import quote, urlsplit, urlunsplit

import typer

from control_plane.dashboards.login import let_in, login_of
from control_plane.keys.terminal import is_terminal

PASSWORD = "PGPASSWORD"  # noqa: S105 -- the name of PostgreSQL's own variable


def create_commands(database_url: Callable[[], str]) -> typer.Typer:
    """The database is asked for only when a command runs. Raise DatabaseAwayError when it is away."""
    commands = typer.Typer(no_args_is_help=True, help="Who may read what dashboards show.")

    @commands.callback()
    def dashboards() -> None:
        """Who may read what dashboards show."""

    @commands.command("login")
    def login(
        name: Annotated[str, typer.Option(help="The database user that Grafana logs in as.")] = "grafana",
        as_: Annotated[
            str | None,
            typer.Option(
                "--as", help="A database user who may create roles; PGPASSWORD holds their password. Else the service's own."
            ),
        ] = None,
    ) -> None:
        """Let a user read the dashboards' views and nothing else. The password is asked for, or read from standard input."""
        asked = typer.prompt("password", hide_input=True, confirmation_prompt=True, err=True) if is_terminal() else None
        chosen = login_of(name, sys.stdin.readline().rstrip("\r\n") if asked is None else asked)
        is_new = asyncio.run(let_in(_as(database_url(), as_), chosen))
        typer.echo(f"{name} may read the dashboards' views" + ("." if is_new else "; the password is changed."))

    return commands


def _as(database_url: str, user: str | None) -> str:
    """The same database, as another user."""
    if user is None:
        return database_url
    parts = urlsplit(database_url)
    secret = quote(os.environ.get(PASSWORD, ""), safe="")
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{secret}@{place}"))
