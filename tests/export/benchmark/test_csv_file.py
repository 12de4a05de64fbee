"""The CSV has perf_analyzer's columns, in its order and units, sorted by throughput."""

import csv
import io

import pytest

from export.benchmark.csv_file import csv_text
from export.benchmark.result import Mode
from tests.export.benchmark.making import level

PERF_ANALYZER = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,Server Compute Infer,"
    "Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency,Avg latency"
)


def test_the_columns_are_perf_analyzers() -> None:
    assert csv_text([], Mode.CONCURRENCY) == PERF_ANALYZER + "\n"
    assert csv_text([], Mode.REQUEST_RATE) == PERF_ANALYZER.replace("Concurrency", "Request Rate") + "\n"


def test_rows_are_those_of_one_mode_by_throughput() -> None:
    levels = [level(8, count=100), level(1, count=300), level(50, mode=Mode.REQUEST_RATE)]
    rows = list(csv.DictReader(io.StringIO(csv_text(levels, Mode.CONCURRENCY))))
    assert [row["Concurrency"] for row in rows] == ["8", "1"]


def test_the_parts_of_an_average_request_add_up_to_it() -> None:
    (row,) = csv.DictReader(io.StringIO(csv_text([level(1)], Mode.CONCURRENCY)))
    columns = PERF_ANALYZER.split(",")
    assert sum(int(row[name]) for name in columns[2:9]) == pytest.approx(int(row["Avg latency"]), abs=4)
    assert (row["Server Queue"], row["Server Compute Infer"], row["p99 latency"]) == ("100", "700", "2000")
