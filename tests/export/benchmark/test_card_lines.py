"""The card shows the benchmark of its own graph, number by number, and never that of another."""

from dataclasses import replace
from pathlib import Path

import pytest

from export.benchmark.card_lines import card_lines
from export.benchmark.result import Mode
from tests.export.benchmark.making import level, result


@pytest.fixture
def file(tmp_path: Path) -> Path:
    whole = result(level(1), replace(level(50, mode=Mode.REQUEST_RATE), is_stable=False))
    (tmp_path / "benchmark.json").write_text(whole.json())
    return tmp_path / "benchmark.json"


def test_every_level_is_a_line(file: Path) -> None:
    text = "\n".join(card_lines(file, result().served_sha256))
    assert "Through Triton 2.51.0 on 2 × a processor, 2026-11-23" in text
    assert "p50 1.00 ms." in text
    assert "| 1 clients | 200 | 2.00 | 2.00 | 2.00 | 0.10 | 0.70 | 2.0 |  |" in text
    assert "| 50 requests/s | 200 | 2.00 | 2.00 | 2.00 | 0.10 | 0.70 | 2.0 | unstable |" in text


def test_another_graphs_numbers_are_not_shown(file: Path) -> None:
    assert card_lines(file, "f" * 64) == ["## Speed", "", "Not measured for this graph.", ""]


def test_without_a_benchmark_there_is_no_section(tmp_path: Path) -> None:
    assert card_lines(tmp_path / "benchmark.json", "0" * 64) == []
