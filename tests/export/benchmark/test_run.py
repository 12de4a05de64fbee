"""The whole measurement against the real Triton, briefly in both modes, and what happens when it goes away."""

import asyncio
from pathlib import Path

import grpc
import pytest

from export.benchmark.failure import BadRange, NotHere, NothingAnswered, TritonFailed
from export.benchmark.load import Distribution
from export.benchmark.result import Episodes, Mode, Result
from export.benchmark.run import Plan, Step, measure_levels, prove, run
from export.benchmark.trials import Trials
from export.contract.manifest import load_manifest
from tests.conftest import outside
from tests.export.benchmark.slow_triton import FULL, SlowTriton, serving

BUNDLE = Path("model_repository/tabletop")
MANIFEST = load_manifest(BUNDLE)
BRIEF = Trials(interval_s=0.25, max_trials=4, warmup_s=0.1)


def _plan(address: str, *steps: Step, batch: int = 1) -> Plan:
    return Plan(folder=BUNDLE, address=address, steps=steps, trials=BRIEF, batch=batch, distribution=Distribution.POISSON)


def _clients(count: int) -> Step:
    return Step(mode=Mode.CONCURRENCY, value=count)


def _run(plan: Plan, heard: list[str] | None = None) -> Result:
    return run(plan, prove(plan), ([] if heard is None else heard).append)


def test_a_closed_loop_is_measured_with_what_triton_says_of_it(triton_url: str) -> None:
    heard: list[str] = []
    found = outside(lambda: _run(_plan(triton_url, _clients(4)), heard))
    (level,) = found.levels
    assert found.triton["version"] == "2.51.0"
    assert found.parity[0].is_close
    assert level.figures.requests > 0
    assert level.figures.refused == {}
    assert abs(level.server.requests - level.figures.requests) <= 2 * 4  # what is on its way at an edge
    assert sum(size * count for size, count in level.server.batches.items()) == level.server.inferences
    assert level.server.compute_infer_us > 0
    assert level.figures.latency.p50_us <= level.figures.latency.p99_us
    assert "4 clients, window 3 measured" in heard


def test_an_open_loop_sends_at_the_rate_that_was_asked_for(triton_url: str) -> None:
    found = outside(lambda: _run(_plan(triton_url, Step(mode=Mode.REQUEST_RATE, value=40.0))))
    (level,) = found.levels
    assert 0 < level.figures.inferences_per_s < 80  # 40 a second; a stall of this machine may delay some
    assert level.figures.client.lag_p99_us > 0


def test_a_batch_is_one_request_of_several_examples(triton_url: str) -> None:
    (level,) = outside(lambda: _run(_plan(triton_url, _clients(1), batch=3))).levels
    assert set(level.server.batches) == {3}
    assert level.server.inferences == 3 * level.server.requests


def test_episodes_are_driven_through_the_same_triton(triton_url: str) -> None:
    asked: list[str] = []

    def drive(address: str) -> Episodes:
        asked.append(address)
        return Episodes(environment="a table", episodes=1, succeeded=1, mean_steps=3.0)

    whole = Plan(folder=BUNDLE, address=triton_url, steps=(_clients(1),), trials=BRIEF, drive=drive)
    assert outside(lambda: _run(whole)).episodes is not None
    assert asked == [triton_url]


def test_an_environment_that_is_not_here_costs_nothing_but_its_own_figure(triton_url: str) -> None:
    def drive(_: str) -> Episodes:
        raise NotHere("closed loop: no screen")

    whole = Plan(folder=BUNDLE, address=triton_url, steps=(_clients(1),), trials=BRIEF, drive=drive)
    found = outside(lambda: _run(whole))
    assert (found.episodes, found.not_measured) == (None, ("closed loop: no screen",))
    assert found.levels[0].figures.requests > 0


def test_a_batch_beyond_the_policys_own_is_refused(triton_url: str) -> None:
    with pytest.raises(BadRange, match="tabletop takes 1 to 16"):
        outside(lambda: _run(_plan(triton_url, _clients(1), batch=17)))


def test_a_policy_that_triton_does_not_serve_is_named(triton_url: str, tmp_path: Path) -> None:
    for path in BUNDLE.iterdir():
        (tmp_path / path.name).symlink_to(path.absolute())
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "manifest.json").write_text(
        (BUNDLE / "manifest.json").read_text().replace('"policy": "tabletop"', '"policy": "unknown"')
    )
    plan = Plan(folder=tmp_path, address=triton_url, steps=(_clients(1),), trials=BRIEF)
    with pytest.raises(TritonFailed, match="does not serve unknown 1"):
        outside(lambda: _run(plan))


async def test_a_triton_that_goes_away_in_the_middle_ends_the_run_in_one_line() -> None:
    servicer, going = SlowTriton(delay_s=lambda _: 0.002), asyncio.Event()
    async with serving(servicer) as server:
        task = asyncio.create_task(measure_levels(_plan(servicer.address, _clients(2)), MANIFEST, lambda _: going.set()))
        await going.wait()
        await server.stop(0)
        with pytest.raises(TritonFailed, match="no Triton answers gRPC") as failed:
            await task
    assert "\n" not in str(failed.value)


async def test_a_queue_that_refuses_everything_ends_the_run_in_words() -> None:
    servicer = SlowTriton(fails=lambda _: (grpc.StatusCode.UNAVAILABLE, FULL))
    async with serving(servicer):
        with pytest.raises(NothingAnswered, match="queue full"):
            await measure_levels(_plan(servicer.address, _clients(1)), MANIFEST, lambda _: None)
