"""Windows are repeated until three in a row agree; a load that never settles is said to be unstable."""

import asyncio

import pytest

from export.benchmark.failure import TritonFailed
from export.benchmark.load import Answer, ClosedLoop, Record, Sample
from export.benchmark.trials import AGREEING, Trials, is_stable, measure
from tests.export.benchmark.making import window

QUICK = Trials(interval_s=0.02, max_trials=5, warmup_s=0.01)


class Steps:
    """A load whose requests take as long as the list says, one entry per window."""

    def __init__(self, latencies_s: list[float]) -> None:
        self.latencies_s, self.window = latencies_s, 0

    async def run(self, record: Record, stop: asyncio.Event) -> None:
        while not stop.is_set():
            latency_s = self.latencies_s[min(self.window, len(self.latencies_s) - 1)]
            record(Sample(0.0, Answer(0.0, 0.0, latency_s, latency_s, None)))
            await asyncio.sleep(0.0005)

    async def read(self) -> int:
        """The server's counter: how often it was read."""
        self.window += 1
        return self.window


class Broken:
    async def run(self, record: Record, stop: asyncio.Event) -> None:  # noqa: ARG002 -- a load's signature
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fail())

    async def _fail(self) -> None:
        raise TritonFailed("gone")


def test_three_windows_that_agree_are_stable() -> None:
    assert is_stable([window([0.010] * 100), window([0.0105] * 98), window([0.0095] * 103)], 0.10)


@pytest.mark.parametrize(
    "windows",
    [
        [window([0.01] * 100)] * (AGREEING - 1),
        [window([0.01] * 100), window([0.01] * 100), window([0.01] * 150)],
        [window([0.01] * 100), window([0.01] * 100), window([0.02] * 100)],
        [window([0.01] * 100), window([0.01] * 100), window([], refused=9)],
    ],
    ids=["too few", "throughput rises", "latency rises", "nothing answered"],
)
def test_windows_that_do_not_agree_are_unstable(windows: list) -> None:  # type: ignore[type-arg]
    assert not is_stable(windows, 0.10)


def test_only_the_last_three_windows_count() -> None:
    assert is_stable([window([0.5] * 3), *[window([0.01] * 100)] * 3], 0.10)


async def test_a_load_that_grows_slower_and_slower_is_unstable_after_the_last_trial() -> None:
    load, heard = Steps([0.001 * 2**number for number in range(20)]), list[int]()
    found = await measure(load, QUICK, load.read, heard.append)
    assert not found.is_stable
    assert found.trials == QUICK.max_trials
    assert heard == [1, 2, 3, 4, 5]


async def test_counters_are_those_at_the_edges_of_the_last_three_windows() -> None:
    load = Steps([0.001 * 2**number for number in range(20)])
    found = await measure(load, QUICK, load.read, lambda _: None)
    assert (found.before, found.after) == (QUICK.max_trials + 1 - AGREEING, QUICK.max_trials + 1)


async def test_what_comes_before_the_first_edge_is_thrown_away() -> None:
    load = Steps([99.0, *[0.001] * 20])
    found = await measure(load, QUICK, load.read, lambda _: None)
    assert max(sample.latency_s for sample in found.window.samples) == 0.001


async def test_a_load_that_fails_ends_the_measurement_with_its_own_words() -> None:
    async def read() -> int:
        return 0

    with pytest.raises(TritonFailed, match="gone"):
        await measure(Broken(), QUICK, read, lambda _: None)


async def test_no_request_is_left_behind() -> None:
    on_their_way = 0

    async def send() -> Answer:
        nonlocal on_their_way
        on_their_way += 1
        await asyncio.sleep(0.03)
        on_their_way -= 1
        return Answer(0.0, 0.0, 0.03, 0.03, None)

    async def read() -> int:
        return 0

    await measure(ClosedLoop(send=send, clients=4), QUICK, read, lambda _: None)
    assert on_their_way == 0
