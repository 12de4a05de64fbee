"""Who sends when, against a real gRPC server that is slow on cue."""

import asyncio
import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from export.benchmark import load as loads
from export.benchmark.failure import GeneratorOverrun
from export.benchmark.load import Answer, ClosedLoop, Distribution, OpenLoop, Sample
from export.benchmark.requests import Served
from export.contract.manifest import load_manifest
from export.golden import load_golden
from tests.export.benchmark.slow_triton import SlowTriton, serving

BUNDLE = Path("model_repository/tabletop")


async def _run(load: ClosedLoop | OpenLoop, seconds: float) -> list[Sample]:
    samples: list[Sample] = []
    stop = asyncio.Event()
    task = asyncio.create_task(load.run(samples.append, stop))
    await asyncio.sleep(seconds)
    stop.set()
    await task
    return samples


async def _never() -> Answer:
    await asyncio.Event().wait()
    raise AssertionError


async def test_as_many_requests_are_on_their_way_as_there_are_clients() -> None:
    most, now = 0, 0

    async def send() -> Answer:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        return Answer(0.0, 0.0, 0.0, 0.0, None)

    await _run(ClosedLoop(send=send, clients=5), 0.05)
    assert most == 5


async def test_a_refused_client_does_not_ask_again_at_once() -> None:
    async def refused() -> Answer:
        return Answer(0.0, 0.0, 0.0, 0.0, "queue full")

    assert len(await _run(ClosedLoop(send=refused, clients=1), 0.1)) < 30


async def test_a_stall_is_charged_to_every_request_that_should_have_been_sent_meanwhile() -> None:
    """One request in 100 waits for 300 ms. A closed loop sees it once; callers at 100 Hz would have met it thirty times."""
    manifest, examples = load_manifest(BUNDLE), load_golden(BUNDLE).inputs
    stalls = asyncio.Lock()

    class Stalling(SlowTriton):
        """Serves one request at a time, as one GPU does."""

        async def ModelInfer(self, request: object, context: object) -> object:  # noqa: N802 -- the protocol's name
            async with stalls:
                return await super().ModelInfer(request, context)

    servicer = Stalling(delay_s=lambda number: 0.3 if number == 40 else 0.0)
    async with serving(servicer):
        served = Served(servicer.address, manifest)
        await served.open(examples, 1)
        samples = await _run(OpenLoop(send=served.send, rate_hz=100), 1.0)
        await served.close()
    slow = [sample for sample in samples if sample.latency_s > 0.02]
    assert len(slow) >= 20
    assert max(sample.latency_s for sample in slow) >= 0.3


async def test_a_generator_that_falls_behind_shows_it_as_lag_and_as_latency() -> None:
    async def blocking() -> Answer:
        sent = time.perf_counter()
        until = sent + 0.02
        while time.perf_counter() < until:
            pass  # holds the event loop, as a slow client would
        now = time.perf_counter()
        return Answer(sent, sent, now, now, None)

    samples = await _run(OpenLoop(send=blocking, rate_hz=200), 0.3)
    last = samples[-1]
    assert last.lag_s > 0.05
    assert last.latency_s >= last.lag_s


async def test_a_rate_far_beyond_the_server_ends_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loads, "MAX_IN_FLIGHT", 5)
    with pytest.raises(ExceptionGroup) as group:
        await OpenLoop(send=_never, rate_hz=5000).run(lambda _: None, asyncio.Event())
    assert group.group_contains(GeneratorOverrun, match="the rate is too high")


def test_constant_arrivals_are_even_and_poisson_ones_have_the_same_mean() -> None:
    even, random = (
        list(itertools.islice(OpenLoop(send=_never, rate_hz=100, distribution=kind).gaps_s(), 5000)) for kind in Distribution
    )
    assert set(even) == {0.01}
    assert np.mean(random) == pytest.approx(0.01, rel=0.1)
    assert np.std(random) == pytest.approx(0.01, rel=0.1)


def test_the_same_seed_gives_the_same_arrivals() -> None:
    first, second = (
        list(itertools.islice(OpenLoop(send=_never, rate_hz=10, distribution=Distribution.POISSON, seed=3).gaps_s(), 50))
        for _ in "ab"
    )
    assert first == second
