"""A baseline that says nothing about a run is refused in one line; what its fields hold is read strictly."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from export.benchmark.baseline import SUCCESS, baseline_json, load_baseline
from export.benchmark.failure import BaselineUnusable
from export.benchmark.gate import judge
from export.benchmark.result import Episodes, Mode, Result
from tests.export.benchmark.making import MACHINE, level, result

Whole = dict[str, Any]
NUMBERS: tuple[object, ...] = (float("nan"), float("inf"), None, "3", True, -1, [[[]]])
TOLERANCES: tuple[object, ...] = (float("nan"), "15%", -0.1, 1, 50.0, {})
NO_FIGURES: tuple[object, ...] = ([], None, "", {})


def _written(folder: Path, change: Callable[[Whole], object] | None = None) -> Path:
    whole = json.loads(result().json())
    if change is not None:
        change(whole)
    (folder / "b.json").write_text(json.dumps(whole))
    return folder / "b.json"


def _all(**fields: object) -> Callable[[Whole], object]:
    return lambda whole: [figure.update(fields) for figure in whole["figures"]]


def _whole(**fields: object) -> Callable[[Whole], object]:
    return lambda whole: whole.update(fields)


def _refusal(path: Path) -> str:
    with pytest.raises(BaselineUnusable) as refused:
        load_baseline(path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400
    return str(refused.value)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        *((_all(value=value), "figures.0.value") for value in NUMBERS),
        *((_all(tolerance=value), "figures.0.tolerance") for value in TOLERANCES),
        (_all(is_higher_better="false"), "figures.0.is_higher_better"),
        (_all(is_portable=""), "figures.0.is_portable"),
        (_all(name=3), "figures.0.name"),
        *((_whole(figures=value), "figures") for value in NO_FIGURES),
        (lambda whole: whole["figures"].extend(whole["figures"]), "figures: a name stands there twice"),
        (lambda whole: whole.pop("variant"), "variant"),
        (_whole(policy=[]), "policy"),
        (_whole(episodes=None), "episodes: a success without them"),
        (_all(value=10**400), "figures.0.value"),
        (_whole(levels=[]), "levels"),
        (_whole(schema_version=2), "schema_version"),
        (_whole(schema_version=True), "schema_version"),
        (_whole(settings={"batch_size": None}), "settings.batch_size"),
    ],
)
def test_a_field_that_no_benchmark_wrote_is_named(tmp_path: Path, change: Callable[[Whole], object], place: str) -> None:
    assert f"b.json: {place}" in _refusal(_written(tmp_path, change))


@pytest.mark.parametrize(
    "content",
    [b"", b"no JSON", b"[]", b"{}", b"[" * 100_000, b'{"schema_version": ' * 100_000, b"\xff\xfe", b"null"],
    ids=["empty", "text", "list", "object", "deep list", "deep object", "binary", "null"],
)
def test_a_file_that_no_benchmark_wrote_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.json").write_bytes(content)
    assert "b.json: " in _refusal(tmp_path / "b.json")


def test_a_baseline_that_is_missing_or_a_folder_is_refused(tmp_path: Path) -> None:
    assert "No such file" in _refusal(tmp_path / "none.json")
    assert "Is a directory" in _refusal(tmp_path)


@pytest.mark.parametrize(
    ("run", "complaint"),
    [
        (result(policy="other"), "policy is other, the baseline's tabletop"),
        (result(variant="torch-cuda-bf16"), "variant is torch-cuda-bf16, the baseline's onnx-cpu-fp32"),
        (result(precision="bf16"), "precision is bf16, the baseline's fp32"),
        (result(settings={"batch_size": 8}), "batch_size is 8, the baseline's 1"),
        (result(settings={"batch_size": 1, "max_trials": 3}), "max_trials is 3, the baseline's not stated"),
        (result(level(1)), "levels is c1, the baseline's c1, c8"),
        (result(level(1), level(8, mode=Mode.REQUEST_RATE)), "levels is c1, r8, the baseline's c1, c8"),
        (
            result(episodes=Episodes(environment="a table", episodes=1, succeeded=1, mean_steps=1.0)),
            "1 closed-loop episodes, the baseline has 10",
        ),
    ],
)
def test_a_run_under_other_conditions_is_refused_with_what_differs(tmp_path: Path, run: Result, complaint: str) -> None:
    with pytest.raises(BaselineUnusable, match="not comparable") as refused:
        judge(run, load_baseline(_written(tmp_path)), 0.15)
    assert complaint in str(refused.value)


def test_absolute_numbers_of_another_machine_alone_judge_nothing(tmp_path: Path) -> None:
    found = load_baseline(_written(tmp_path, _all(is_portable=False)))
    assert judge(result(), found, 0.15).broken == ()
    with pytest.raises(BaselineUnusable, match="cannot judge"):
        judge(result(machine=replace(MACHINE, cpu="another")), found, 0.15)


def test_a_figure_with_its_direction_turned_round_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaselineUnusable, match="refused_share: the baseline says that more is better"):
        judge(result(), load_baseline(_written(tmp_path, _all(is_higher_better=True))), 0.15)


def test_what_is_recorded_can_be_read_and_judges_the_run_that_it_came_from(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(baseline_json(result(), {}))
    verdict = judge(result(), load_baseline(tmp_path / "b.json"), 0.01)
    assert (verdict.broken, verdict.compared) == ((), len([one for one in result().figures() if one.is_portable]))


def test_the_committed_baseline_can_be_read_and_holds_a_tolerance_for_what_varies() -> None:
    found = load_baseline(Path("benchmarks/results/model_tabletop.json"))
    # What succeeded is held against the bound of the baseline's own episodes.
    assert {one.name for one in found.figures if one.tolerance is None} == {"refused_share", SUCCESS}
    assert "in_process_over_reference_p10" in {one.name for one in found.figures}
