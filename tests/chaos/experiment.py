"""The kill test: load runs, one server after another is killed with SIGKILL, then rows are counted against the ledger.

Called by the suite with a small size and by `make chaos` with a long one. What must hold: every acknowledged request id has
exactly one row, no id has two, and the roll-ups say the same as the rows.
"""

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from benchmarks.http_client import Pool, post
from benchmarks.stack import Stack
from tests.chaos.ledger import Ledger, steady_load

VICTIMS = ("api-1", "worker", "valkey", "postgres", "triton")
SETTLE_S = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how hard."""

    rounds: int
    rate_hz: float
    acknowledged_between: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was counted afterwards."""

    acknowledged: int
    outcomes: dict[str, int]
    kills: int
    rows: int
    distinct_rows: int
    missing: list[str]
    repeated_answers: list[str]
    billable_rows: int
    billable_in_rollups: int
    dead_letters: int


async def run(stack: Stack, plan: Plan, *, image: bytes, content_type: str) -> Outcome:
    """Kills every victim `plan.rounds` times under load and counts."""
    ledger, pool = Ledger(), Pool(stack.host, stack.port)
    request = post("/v1/inference", body=image, content_type=content_type, key=stack.key)
    load = asyncio.create_task(steady_load(ledger, pool, request, rate_hz=plan.rate_hz))
    kills = 0
    try:
        await ledger.grow(plan.acknowledged_between, within_s=SETTLE_S)
        for _ in range(plan.rounds):
            for victim in VICTIMS:
                await _kill(stack, victim)
                kills += 1
                await ledger.grow(plan.acknowledged_between, within_s=SETTLE_S)
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        pool.close()
    return await _count(stack, ledger, kills)


async def _kill(stack: Stack, victim: str) -> None:
    """Sends SIGKILL and waits until the supervisor has brought another process up in its place."""
    before = await asyncio.to_thread(stack.status)
    dead = before["servers"][victim]["pid"]
    os.kill(dead, signal.SIGKILL)
    async with asyncio.timeout(SETTLE_S):
        while True:
            server = (await asyncio.to_thread(stack.status))["servers"][victim]
            if server["state"] == "ready" and server["pid"] != dead:
                return
            await asyncio.sleep(0.2)


async def _count(stack: Stack, ledger: Ledger, kills: int) -> Outcome:
    connection = await asyncpg.connect(database_url(stack))
    try:
        recorded = await _recorded(connection, ledger.acknowledged)
        return Outcome(
            acknowledged=len(ledger.acknowledged),
            outcomes=dict(ledger.outcomes),
            kills=kills,
            rows=await connection.fetchval("SELECT count(*) FROM inference_logs"),
            distinct_rows=await connection.fetchval("SELECT count(DISTINCT request_id) FROM inference_logs"),
            missing=sorted(ledger.acknowledged - recorded),
            repeated_answers=ledger.repeated,
            billable_rows=await connection.fetchval("SELECT count(*) FROM inference_logs WHERE is_billable"),
            billable_in_rollups=await connection.fetchval("SELECT coalesce(sum(billable_requests), 0)::bigint FROM usage_months"),
            dead_letters=await connection.fetchval("SELECT count(*) FROM usage_dead_letters"),
        )
    finally:
        await connection.close()


async def _recorded(connection: Any, acknowledged: set[str]) -> set[str]:
    """The acknowledged ids that have a row, once all have arrived or the recorder has had SETTLE_S for it."""
    wanted = {_uuid(public): public for public in acknowledged}
    deadline = time.monotonic() + SETTLE_S
    while True:
        rows = await connection.fetch("SELECT DISTINCT request_id FROM inference_logs WHERE request_id = ANY($1)", list(wanted))
        if len(rows) == len(wanted) or time.monotonic() > deadline:
            return {wanted[UUID(bytes=row["request_id"].bytes)] for row in rows}
        await asyncio.sleep(0.3)


def database_url(stack: Stack) -> str:
    """The database that the stack's own processes use, from the file they share with the command line."""
    lines = (stack.state_dir / "env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)["VLA_DATABASE_URL"]


def _uuid(public: str) -> UUID:
    return UUID(hex=public.removeprefix("inf_").replace("-", ""))
