"""What a request asks of Redis: two round trips, with a session or without; the session rides in those that are there anyway."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from control_plane.breaker import Breaker
from control_plane.inference.observation import Inquiry
from control_plane.inference.pipeline import Call, Pipeline
from control_plane.inference.trace import Trace
from control_plane.limits.limiter import Limiter
from control_plane.metrics import create_metrics
from control_plane.redis import create_redis
from control_plane.usage.journal import running_journal
from tests.control_plane.fakes import KEY, House, picture


class Counting(Breaker):
    """A breaker that never opens and counts who passes: each is one round trip."""

    def __init__(self) -> None:
        super().__init__(pause_s=0)
        self.passed = 0

    def may_try(self) -> bool:
        self.passed += 1
        return super().may_try()


@pytest.fixture
async def served(clean_redis_url: str, tmp_path: Path) -> AsyncIterator[tuple[Pipeline, Counting]]:
    """The pipeline over a real Valkey, and the count of its round trips."""
    redis, counting, metrics = create_redis(clean_redis_url, timeout_s=10), Counting(), create_metrics()
    redis.breaker = counting  # type: ignore[attr-defined]  # our client has one
    apart = create_redis(clean_redis_url, timeout_s=10)
    async with running_journal(redis=apart, spool_dir=tmp_path, metrics=metrics, log=structlog.get_logger()) as journal:
        journal._redis = redis
        limiter = Limiter(redis=redis, processes=1, metrics=metrics)
        yield replace(House().pipeline(), limiter=limiter, journal=journal), counting
    await redis.aclose()
    await apart.aclose()


def call(**changes: Any) -> Call:
    async def parse() -> Inquiry:
        return Inquiry(**{"image": picture(), "images": {}, "instruction": "pick up red cube", **changes})

    return Call(trace=Trace(route="/v1/inference"), authorization=KEY, parse=parse)


async def test_a_session_costs_no_round_trip_of_its_own(served: tuple[Pipeline, Counting]) -> None:
    pipeline, counting = served
    await pipeline.answer(call())  # makes the script known
    spent = []
    for changes in ({}, {"session_id": "ep-17", "seq": 1}, {"session_id": "ep-17", "seq": 2}):
        before = counting.passed
        await pipeline.answer(call(**changes))
        spent.append(counting.passed - before)
    assert spent == [2, 2, 2]


async def test_a_redis_that_has_forgotten_the_script_is_told_it_again_with_the_session(
    served: tuple[Pipeline, Counting], clean_redis_url: str
) -> None:
    pipeline, counting = served
    await pipeline.answer(call(session_id="ep-17", seq=1))
    there = create_redis(clean_redis_url, timeout_s=10)
    await there.script_flush()
    await there.aclose()
    before = counting.passed
    second = await pipeline.answer(call(session_id="ep-17", seq=2))
    assert counting.passed - before == 3
    assert second.admission.remaining_minute is not None
