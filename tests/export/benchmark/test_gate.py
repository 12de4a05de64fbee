"""The gate: what got worse than a baseline by more than the tolerance is named, a line each."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from export.benchmark.baseline import Baseline, baseline_json, load_baseline
from export.benchmark.failure import BadRange
from export.benchmark.gate import judge, parse_tolerance
from export.benchmark.result import Episodes, InProcess, Mode, Result
from tests.export.benchmark.making import MACHINE, level, result


@pytest.fixture
def baseline(tmp_path: Path) -> Baseline:
    return _recorded(tmp_path, result())


def _recorded(folder: Path, whole: Result) -> Baseline:
    (folder / "baseline.json").write_text(whole.json())
    return load_baseline(folder / "baseline.json")


def test_the_same_run_is_no_worse(baseline: Baseline) -> None:
    verdict = judge(result(), baseline, 0.0)
    assert verdict.broken == ()
    assert verdict.compared == len(result().figures())


def test_a_slower_run_is_named_by_figure_with_what_was_allowed(baseline: Baseline) -> None:
    slow = result(level(1, latency_s=0.003), level(8, count=300))
    reasons = judge(slow, baseline, 0.15).broken
    assert "served_over_in_process_p10: 3, at most 2.3 is allowed (baseline 2, tolerance 15%)" in reasons
    assert any(reason.startswith("p50_us_c1: ") for reason in reasons)
    assert all("\n" not in reason for reason in reasons)


def test_a_run_within_the_tolerance_passes(baseline: Baseline) -> None:
    slower = result(level(1, latency_s=0.0022), level(8, count=300))
    assert judge(slower, baseline, 0.15).broken == ()
    assert judge(slower, baseline, 0.05).broken != ()


def test_a_better_run_passes(baseline: Baseline) -> None:
    assert judge(result(level(1, latency_s=0.001), level(8, count=900)), baseline, 0.0).broken == ()


def test_lost_episodes_and_lost_scaling_are_worse(baseline: Baseline) -> None:
    episodes = Episodes(environment="a table", episodes=10, succeeded=7, mean_steps=20.0)
    names = [
        reason.partition(":")[0]
        for reason in judge(result(level(1), level(8, count=200), episodes=episodes), baseline, 0.15).broken
    ]
    assert {"closed_loop_success", "throughput_c8_over_c1"} <= set(names)


@pytest.mark.parametrize(("succeeded", "is_worse"), [(10, False), (8, False), (7, True), (0, True)])
def test_success_may_not_fall_below_the_interval_of_the_baselines_own_episodes(
    baseline: Baseline, succeeded: int, is_worse: bool
) -> None:
    episodes = Episodes(environment="a table", episodes=10, succeeded=succeeded, mean_steps=20.0)
    broken = judge(result(episodes=episodes), baseline, 0.9).broken
    assert [reason.partition(":")[0] for reason in broken] == ["closed_loop_success"] * is_worse
    assert all("at least 0.7225 is allowed (95 % of the baseline's 10 of 10)" in reason for reason in broken)


def test_any_refusal_is_worse_than_none(baseline: Baseline) -> None:
    one = level(8, count=300)
    refused = replace(one, figures=replace(one.figures, refused={"queue full": 1}))
    assert [reason.partition(":")[0] for reason in judge(result(level(1), refused), baseline, 0.5).broken] == ["refused_share"]


def test_a_figure_that_was_not_measured_is_broken(baseline: Baseline) -> None:
    (reason,) = judge(result(episodes=None), baseline, 0.15).broken
    assert reason == "closed_loop_success: not measured in this run, the baseline has 10 of 10"


def test_a_graph_that_got_slower_is_worse_on_any_machine_although_serving_it_is_no_slower_than_running_it(tmp_path: Path) -> None:
    elsewhere = _recorded(tmp_path, result(machine=replace(MACHINE, cpu="another")))
    slow = result(level(1, latency_s=0.02, count=20), level(8, count=30, latency_s=0.02), in_process=_in_process(10_000.0))
    (reason,) = judge(slow, elsewhere, 0.9).broken
    assert reason.startswith("in_process_over_reference_p10: 5, at most 0.95")


def test_levels_that_did_not_settle_are_judged_and_it_is_said(baseline: Baseline) -> None:
    shaky = result(level(1), level(8, count=300, is_stable=False))
    verdict = judge(shaky, baseline, 0.15)
    assert verdict.broken == ()
    assert "throughput_c8_over_c1" in verdict.unstable
    assert "served_over_in_process_p10" not in verdict.unstable
    marks = {one["name"]: one["is_stable"] for one in json.loads(shaky.json())["figures"]}
    assert (marks["p50_us_c8"], marks["p50_us_c1"], marks["throughput_c8_over_c1"]) == (False, True, False)


def test_absolute_numbers_of_another_machine_are_not_compared(tmp_path: Path) -> None:
    elsewhere = _recorded(tmp_path, result(machine=replace(MACHINE, cpu="a faster one")))
    twice = replace(_in_process(2_000.0), reference_p10_us=4_000.0)
    slow = result(level(1, count=100, latency_s=0.004), level(8, count=150, latency_s=0.02), in_process=twice)
    verdict = judge(slow, elsewhere, 0.15)
    assert verdict.broken == ()
    assert "p50_us_c1" in verdict.skipped


def _in_process(p50_us: float) -> InProcess:
    return InProcess(runs=100, p50_us=p50_us, p99_us=p50_us, p10_us=p50_us, reference_p10_us=2000.0)


def test_a_portable_baseline_holds_ratios_only_with_tolerances_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(baseline_json(result(), {"served_over_in_process_p10": 0.6}))
    found = load_baseline(path)
    assert all(figure.is_portable for figure in found.figures)
    assert judge(result(level(1, latency_s=0.003), level(8, count=300)), found, 0.15).broken == ()
    assert judge(result(level(1, latency_s=0.0033), level(8, count=300)), found, 0.15).broken != ()


@pytest.mark.parametrize(("text", "share"), [("15%", 0.15), ("0.15", 0.15), ("0", 0.0), ("0%", 0.0)])
def test_a_tolerance_is_a_share(text: str, share: float) -> None:
    assert parse_tolerance(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["15", "-1%", "x", "", "100%", "nan"])
def test_a_tolerance_that_allows_everything_or_nothing_is_refused(text: str) -> None:
    with pytest.raises(BadRange, match="tolerance"):
        parse_tolerance(text)


def test_figures_of_rates_have_names_of_their_own() -> None:
    names = [figure.name for figure in result(level(150, mode=Mode.REQUEST_RATE)).figures()]
    assert "p99_us_r150" in names
    assert "served_over_in_process_p10" not in names


def test_the_json_is_what_it_says(baseline: Baseline) -> None:
    whole = json.loads(result().json())
    assert whole["levels"][1]["server"]["batches"] == {"1": 20, "2": 20, "4": 10}
    assert whole["parity"][0]["tensor"] == "action"
    assert [one["name"] for one in whole["figures"]] == [figure.name for figure in baseline.figures]
