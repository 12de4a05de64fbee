"""`vlaapi redis rebuild`: after a Redis was lost, emptied or replaced. Words and output only."""

import asyncio
from collections.abc import Callable
from typing import Annotated

import typer

from control_plane.db import create_engine
from control_plane.rebuild.redis_contents import EventsWaitError, Rebuilt, rebuild
from control_plane.redis import REDIS_AWAY, create_redis

TIMEOUT_S = 600.0

Url = Callable[[], str]


def create_commands(database_url: Url, redis_url: Url) -> typer.Typer:
    """The stores are asked for only when a command runs. Raise DatabaseAwayError when it is away."""
    commands = typer.Typer(no_args_is_help=True, help="Make what Redis held again.")

    @commands.callback()
    def redis() -> None:
        """Make what Redis held again."""

    @commands.command("rebuild")
    def rebuild_(
        flush: Annotated[bool, typer.Option("--flush", help="Empty it first, once no usage event waits in it.")] = False,
        wait_s: Annotated[
            float, typer.Option("--wait", min=0, help="Seconds in which the recorder may drain the stream.")
        ] = 30.0,
    ) -> None:
        """Counts of day and month, policies' standing and keys, from PostgreSQL. Refuses to lose a usage event."""
        try:
            done = asyncio.run(_rebuilt(database_url(), redis_url(), is_emptied_first=flush, patience_s=wait_s))
        except EventsWaitError as error:
            fault = str(error)
        except REDIS_AWAY as error:
            fault = f"Redis cannot be reached ({type(error).__name__})"
        else:
            typer.echo(f"{done.counters} counters raised, {done.keys} keys known, policies at revision {done.standing_revision}")
            return
        typer.echo(f"vlaapi: {fault}", err=True)
        raise typer.Exit(1)

    return commands


async def _rebuilt(database_url: str, redis_url: str, *, is_emptied_first: bool, patience_s: float) -> Rebuilt:
    engine = create_engine(database_url, pool_size=16, timeout_s=TIMEOUT_S)
    redis = create_redis(redis_url, timeout_s=10.0)
    try:
        return await rebuild(engine, redis, is_emptied_first=is_emptied_first, patience_s=patience_s)
    finally:
        await redis.aclose()
        await engine.dispose()
