"""`vlaapi usage reconcile`: shows per customer where rows, roll-ups and Redis counters differ, and repairs when told to.

Roll-ups are made again from the rows; counters are set only within what `month_counters` proves. Words and output only.
"""

import asyncio
import getpass
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import NoReturn

import asyncpg
import typer

from control_plane.db import connect, create_engine, database_errors
from control_plane.redis import REDIS_AWAY, create_redis
from control_plane.usage.month_counters import CounterDifference, NotDrainedError, compare_counters, repair_counters
from control_plane.usage.reconcile import Difference, reconcile
from control_plane.usage.repair import Repair, repair

TIMEOUT_S = 600.0
_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the stores are. Without Redis, or for a month that is over, counters are not looked at."""

    database_url: str
    redis_url: str | None


def look(places: Places, month: date, *, is_repairing: bool) -> NoReturn:
    """Prints every difference and what became of it. Ends with 1 if there was one, repaired or not."""
    differences, repairs = asyncio.run(_roll_ups(places.database_url, month, is_repairing=is_repairing))
    done = {(one.difference.roll_up, one.difference.customer_id, one.difference.starts_on): one for one in repairs}
    for found in differences:
        typer.echo(_difference_line(found) + _became(done.get((found.roll_up, found.customer_id, found.starts_on))))
    typer.echo(f"{month:%Y-%m}: {len(differences)} roll-up rows differ from the log")
    counters: Sequence[CounterDifference] = ()
    if places.redis_url is not None and month.replace(day=1) == datetime.now(UTC).date().replace(day=1):
        counters = _counters_or_why_not(places.database_url, places.redis_url, month, is_repairing=is_repairing)
    raise typer.Exit(1 if differences or counters else 0)


def _counters_or_why_not(database_url: str, redis_url: str, month: date, *, is_repairing: bool) -> Sequence[CounterDifference]:
    try:
        counters = asyncio.run(_counters(database_url, redis_url, month.replace(day=1), is_repairing=is_repairing))
    except (NotDrainedError, *REDIS_AWAY) as error:
        typer.echo(f"counters were not compared: {error}", err=True)
        return ()
    for counter in counters:
        typer.echo(_counter_line(counter, is_repairing=is_repairing))
    typer.echo(f"{month:%Y-%m}: {len(counters)} counters of the month differ from the roll-ups")
    return counters


async def _roll_ups(database_url: str, month: date, *, is_repairing: bool) -> tuple[Sequence[Difference], Sequence[Repair]]:
    engine = create_engine(database_url, pool_size=1, timeout_s=TIMEOUT_S)
    try:
        with database_errors():
            differences = await reconcile(engine, month)
            if not is_repairing or not differences:
                return differences, ()
            connection = await connect(database_url, timeout_s=TIMEOUT_S, name="vlaapi-usage")
            try:
                return differences, await repair(connection, differences, by=_actor())
            finally:
                await connection.close()
    finally:
        await engine.dispose()


async def _counters(database_url: str, redis_url: str, month: date, *, is_repairing: bool) -> Sequence[CounterDifference]:
    redis = create_redis(redis_url, timeout_s=5.0)
    try:
        with database_errors():
            connection: asyncpg.Connection = await connect(database_url, timeout_s=TIMEOUT_S, name="vlaapi-usage")
            try:
                found = await compare_counters(connection, redis, month, patience_s=_PATIENCE_S)
                return await repair_counters(connection, redis, found, by=_actor()) if is_repairing else found
            finally:
                await connection.close()
    finally:
        await redis.aclose()


def _actor() -> str:
    return f"cli:{getpass.getuser()}"


def _difference_line(difference: Difference) -> str:
    counts = ", ".join(f"{name} {kept} but {raw} in the log" for name, (raw, kept) in difference.counts.items())
    return f"{difference.roll_up} {difference.starts_on} customer {difference.customer_id}: {counts}"


def _became(one: Repair | None) -> str:
    if one is None:
        return ""
    return "; repaired" if one.is_repaired else f"; left as it is: {one.reason}"


def _counter_line(counter: CounterDifference, *, is_repairing: bool) -> str:
    bounds = f"{counter.at_least} to {counter.at_most}"
    line = f"counter {counter.month:%Y-%m} customer {counter.customer_id}: {counter.used} but {bounds} by the roll-ups"
    if not is_repairing:
        return line
    return (
        f"{line}; changed by {counter.changed_by:+d}" if counter.changed_by else f"{line}; taken off at the next look if it stays"
    )
