"""What the terminal shows fits on one, and says what a reader must know to trust the numbers."""

import io
from dataclasses import replace

from rich.console import Console

from export.benchmark.gate import Verdict
from export.benchmark.result import Mode
from export.benchmark.table import breakdown_table, figures_table, latency_table, remarks, verdict_lines
from tests.export.benchmark.making import SERVER, level, result


def _shown(*renderables: object) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(*renderables)
    return out.getvalue()


def test_every_level_is_shown_uncut_on_eighty_columns() -> None:
    whole = result(level(1), level(1024), level(12345, mode=Mode.REQUEST_RATE, is_stable=False))
    shown = _shown(latency_table(whole), breakdown_table(whole))
    assert "…" not in shown
    assert "1024 clients" in shown
    assert "3, unstable" in shown


def test_a_figure_that_rests_on_an_unstable_level_is_marked() -> None:
    shown = _shown(figures_table(result(level(1), level(8, count=300, is_stable=False)))).splitlines()
    marked = {line.split()[0] for line in shown if "on an unstable level" in line}
    assert marked == {"refused_share", "throughput_c8_over_in_process", "throughput_c8_over_c1"}


def test_a_verdict_on_unstable_numbers_says_so() -> None:
    lines = list(verdict_lines(Verdict(compared=3, broken=(), skipped=(), unstable=("a", "b"))))
    assert lines == ["judged on numbers that did not settle: a, b", "no worse than the baseline in 3 figures"]


def test_doubts_are_said() -> None:
    few = level(8, count=20, is_stable=False)
    busy = level(4)
    figures = replace(busy.figures, refused={"queue full": 3}, client=replace(busy.figures.client, cores=0.97))
    shared = level(2, server=replace(SERVER, requests=900))
    late = level(50, mode=Mode.REQUEST_RATE)
    late = replace(late, figures=replace(late.figures, client=replace(late.figures.client, lag_p99_us=1500.0)))
    said = "\n".join(remarks(result(few, replace(busy, figures=figures), shared, late)))
    assert "8 clients: unstable after 3 windows" in said
    assert "8 clients: 20 requests are few for a p99" in said
    assert "4 clients: the generator used 0.97 cores" in said
    assert "4 clients: refused 3 (queue full)" in said
    assert "2 clients: Triton served 900 requests meanwhile" in said
    assert "50/s: requests were sent up to 1.5 ms late" in said


def test_what_was_not_measured_is_said() -> None:
    assert "not measured  closed loop: no screen" in remarks(result(episodes=None, not_measured=("closed loop: no screen",)))


def test_a_calm_run_raises_no_doubt() -> None:
    assert [line.split("  ")[0] for line in remarks(result())] == ["parity", "in process", "closed loop"]


def test_what_is_worse_is_named_and_what_was_not_compared_is_said() -> None:
    lines = list(verdict_lines(Verdict(compared=3, broken=("a: 1, at least 2",), skipped=("b",))))
    assert lines == ["not compared, because the baseline is from another machine: b", "worse: a: 1, at least 2"]
    assert list(verdict_lines(Verdict(compared=3, broken=(), skipped=()))) == ["no worse than the baseline in 3 figures"]
