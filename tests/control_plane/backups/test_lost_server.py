"""The drill of docs/BACKUPS.md, shortened: all is gone, the manual's commands one by one, and a robot asks with its old key."""

from pathlib import Path

import asyncpg
import pytest

from control_plane.redis import create_redis
from tests.conftest import outside
from tests.control_plane.backups.test_commands import environment
from tests.control_plane.test_cli import Environment, vlaapi
from tests.control_plane.whole_app import PEPPER, events_in, new_key, post, running, settings_of, variables

__all__ = ["environment"]

_SUMS = """
    SELECT (SELECT count(*) FROM inference_logs) AS rows, (SELECT sum(billable_requests) FROM usage_months) AS months,
           (SELECT sum(total_cents) FROM invoices) AS invoices, (SELECT sum(abs(amount_cents)) FROM ledger_entries) AS ledger,
           (SELECT array_agg(company_name || ' ' || monthly_usage ORDER BY company_name) FROM customers) AS statement
"""


async def sums(url: str) -> asyncpg.Record:
    """Usage and money."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchrow(_SUMS)
    finally:
        await connection.close()


async def lose(url: str, redis_url: str) -> None:
    """Another machine, set up anew: an empty database of that name, an empty Redis."""
    server, _, name = url.rpartition("/")
    connection = await asyncpg.connect(f"{server}/postgres")
    try:
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    finally:
        await connection.close()
    redis = create_redis(redis_url, timeout_s=5.0)
    await redis.flushall()
    await redis.aclose()


@pytest.mark.timeout(300)
async def test_usage_invoices_and_keys_are_there_again_and_a_request_is_answered(
    environment: Environment, business: str, triton_url: str, tmp_path: Path
) -> None:
    redis_url = environment["VLA_REDIS_URL"]
    named = variables(database_url=business, redis_url=redis_url, triton_url=triton_url, spool=tmp_path / "spool")
    assert environment["VLA_KEY_PEPPER"] == PEPPER
    key, service = await new_key(settings_of(named)), environment | named
    before = await sums(business)
    created = outside(lambda: vlaapi(environment, "backup", "create"))
    await lose(business, redis_url)

    for words in (
        ("backup", "restore", created.out.split(":")[0]),
        ("migrate",),
        ("redis", "rebuild", "--flush"),
        ("billing", "check"),
    ):
        done = outside(lambda words=words: vlaapi(service, *words))  # type: ignore[misc]  # mypy takes no default for a lambda
        assert done.status == 0, (words, done.err)
    assert (await sums(business), before["invoices"]) == (before, 250060)
    async with running(settings_of(named)) as client:
        answer = await post(client, key)
    assert answer.status_code == 200, answer.text
    redis = create_redis(redis_url, timeout_s=5.0)
    assert [event.is_billable for event in await events_in(redis)] == [True]
    await redis.aclose()
