"""`vlaapi export benchmark` on a real Triton that it starts itself; its exit codes; and every wrong word in one line."""

import csv
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from export.__main__ import app
from export.benchmark import commands
from export.benchmark.own_triton import own_triton
from export.benchmark.result import SCHEMA_VERSION

pytestmark = pytest.mark.export
VENV = Path(os.environ.get("VLA_TRITON_VENV", ".venv-triton"))
QUICK = ("--measurement-interval-ms", "200", "--max-trials", "3", "--episodes", "1", "--triton-venv", str(VENV))


def _run(*words: str) -> Result:
    return CliRunner().invoke(app, ["benchmark", "tabletop", *words], catch_exceptions=False)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one short run in both modes wrote."""
    folder = tmp_path_factory.mktemp("benchmark")
    words = ("--concurrency-range", "1:2", "--request-rate-range", "20", "--record-baseline", str(folder / "baseline.json"))
    done = _run(*QUICK, *words, "--out", str(folder))
    assert done.exit_code == 0, done.output
    return folder


def test_everything_is_written(out: Path) -> None:
    assert {path.name for path in out.iterdir()} == {
        "baseline.json",
        "benchmark.json",
        "benchmark.png",
        "concurrency.csv",
        "request_rate.csv",
    }
    found = json.loads((out / "benchmark.json").read_text())
    assert [(level["mode"], level["value"]) for level in found["levels"]] == [
        ("concurrency", 1),
        ("concurrency", 2),
        ("request_rate", 20),
    ]
    if found["episodes"] is None:  # a machine without off-screen OpenGL
        assert "apt install" in found["not_measured"][0]
    else:
        assert found["episodes"]["episodes"] == 1
    assert found["in_process"]["runs"] >= 30
    with (out / "concurrency.csv").open() as file:
        assert sorted(row["Concurrency"] for row in csv.DictReader(file)) == ["1", "2"]


def test_nothing_in_the_bundle_has_changed(out: Path) -> None:
    assert CliRunner().invoke(app, ["verify", "tabletop"]).exit_code == 0


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with own_triton(Path("model_repository/tabletop"), VENV) as address:
        yield address


def test_a_run_that_is_no_worse_ends_with_0_and_a_worse_one_with_1_and_reasons(out: Path, address: str) -> None:
    good, bad = out / "baseline.json", out / "unreachable.json"
    baseline = json.loads(good.read_text())
    baseline["figures"] = [one for one in baseline["figures"] if one["name"] != "closed_loop_success"]
    for figure in baseline["figures"]:
        figure["tolerance"] = 0.99
    good.write_text(json.dumps(baseline))
    for figure in baseline["figures"]:
        if figure["name"].startswith("served_over"):
            figure.update(value=1e-6, tolerance=0.1)
    bad.write_text(json.dumps(baseline))
    levels = ("--concurrency-range", "1:2", "--request-rate-range", "20")
    words = (*QUICK, "--episodes", "0", "--triton", address, *levels, "--out", str(out))
    assert _run(*words, "--baseline", str(good)).exit_code == 0
    worse = _run(*words, "--baseline", str(bad), "--attempts", "2")
    assert worse.exit_code == 1
    assert "attempt 2 of 2" in worse.output
    reason, _ = [line for line in worse.output.splitlines() if line.startswith("worse: ")]
    assert reason.startswith("worse: served_over_in_process_p10: ")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--concurrency-range", "8:1"), "concurrency range '8:1'"),
        (("--concurrency-range", ""), "concurrency range ''"),
        (("--request-rate-range", ""), "request rate range ''"),
        (("--triton", ""), "triton ''"),
        (("--triton", "host:"), "triton 'host:'"),
        (("--request-rate-range", "fast"), "request rate range 'fast'"),
        (("--tolerance", "15"), "tolerance '15'"),
        (("--baseline", "/nowhere/b.json"), "/nowhere/b.json: No such file"),
        (("--measurement-interval-ms", "1"), "a window of 1 ms"),
        (("--stability-percentage", "0"), "0 %"),
        (("--max-trials", "2"), "2 trials"),
        (("--triton", "127.0.0.1:1"), "no Triton answers gRPC at 127.0.0.1:1"),
        (("--triton", "nowhere"), "nowhere"),
        (("--triton-venv", "/nowhere"), "/nowhere holds no nvidia-pytriton"),
        (("--repository", "/nowhere"), "no manifest"),
    ],
)
def test_a_wrong_word_ends_with_2_and_one_line(words: tuple[str, ...], complaint: str) -> None:
    done = _run(*words)
    assert done.exit_code == 2
    (line,) = done.output.strip().splitlines()
    assert complaint in line


def test_the_help_says_how_many_clients_there_are_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert "1:8:7; none with --request-rate-range" in _run("--help").output


def test_a_run_that_could_not_be_compared_is_refused_before_it_starts(out: Path) -> None:
    done = _run(*QUICK, "--concurrency-range", "1", "--triton", "127.0.0.1:1", "--baseline", str(out / "benchmark.json"))
    assert done.exit_code == 2
    (line,) = done.output.strip().splitlines()
    assert "not comparable: levels is c1, the baseline's c1, c2, r20" in line


def test_an_environment_whose_package_is_missing_is_said_and_the_rest_is_measured(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(commands.ENVIRONMENTS, "tabletop", "a_package_that_is_not_there")
    done = _run(*QUICK, "--triton", address, "--concurrency-range", "1", "--out", str(tmp_path))
    assert done.exit_code == 0
    assert "not measured  closed loop: it needs the package a_package_that_is_not_there" in done.output


def test_a_bundle_that_triton_cannot_load_ends_with_2_and_tritons_own_reason(tmp_path: Path) -> None:
    bundle = Path(shutil.copytree("model_repository/tabletop", tmp_path / "tabletop"))
    (bundle / "1" / "model.py").write_text("import something_that_is_not_there\n")
    done = _run("--repository", str(tmp_path), "--triton-venv", str(VENV))
    assert done.exit_code == 2
    (line,) = done.output.strip().splitlines()
    assert "No module named 'something_that_is_not_there'" in line
    assert "--triton HOST:PORT" in line


def test_a_baseline_of_another_age_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1}))
    done = _run("--baseline", str(tmp_path / "b.json"))
    assert (done.exit_code, "record it again" in done.output) == (2, True)
