"""`vlaapi safety calibrate`: what it reads, what it fits, and that the false alarms it reports are counted on other episodes."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from control_plane.errors import ApiError
from control_plane.guarding.calibrate import Task, read_rollouts, run_task, split
from safety.calibration import ThresholdsError, parse_thresholds
from safety.profile import load_profiles
from tests.control_plane.fakes import ROOT
from tests.control_plane.test_cli import inherited, vlaapi

POLICY = ROOT / "model_repository" / "tabletop"


def episode(seed: int, *, chunks: int = 6, jump: float = 0.0) -> dict[str, Any]:
    """A smooth motion, asked for anew every four steps; `jump` is how much the plans disagree, as a deviation."""
    random = np.random.default_rng(seed)
    path = np.cumsum(random.normal(0, 0.001, (4 * chunks + 8, 7)), axis=0).astype(np.float32)
    made = np.stack([path[4 * index : 4 * index + 8] for index in range(chunks)])
    made += random.normal(0, jump, (chunks, 1, 7)).astype(np.float32)
    return {"chunks": made, "executed_index": np.full(chunks - 1, 3), "is_success": np.array(True)}


def write(folder: Path, count: int, **how: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for seed in range(count):
        np.savez(folder / f"{seed:03}.npz", **episode(seed, **how))
    return folder


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(
        rollouts=tmp_path / "rollouts",
        out=tmp_path / "thresholds.toml",
        policy_folder=POLICY,
        robot=None,
        profiles=load_profiles(),
        alpha=0.1,
        held_out=0.5,
    )


def test_thresholds_are_fitted_on_half_and_measured_on_the_other(task: Task) -> None:
    write(task.rollouts, 80, jump=0.002)
    report = run_task(task)
    assert (report.fitted, report.held_out, report.failed) == (40, 40, 0)
    scores = {score.name: score for score in report.scores}
    consistency = scores["chunk_consistency"]
    assert consistency.threshold is not None
    assert consistency.threshold > 0
    assert (consistency.held_out, scores["token_entropy"].threshold) == (40, None)
    assert consistency.alarms <= 12  # 4 expected; 12 of 40 would be a chance of one in 2,000
    assert scores["action_range"].threshold is not None


def test_the_file_is_unused_until_a_person_has_signed_it(task: Task) -> None:
    write(task.rollouts, 80)
    run_task(task)
    text = task.out.read_text()
    with pytest.raises(ThresholdsError, match="reviewed"):
        parse_thresholds(text)
    signed = text.replace('reviewed_by = ""', 'reviewed_by = "Ada"').replace('reviewed_on = ""', 'reviewed_on = "2026-11-23"')
    found = parse_thresholds(signed)
    assert (found.policy, found.robot_type) == ("tabletop", "franka_panda")
    assert found.chunk_consistency is not None


def test_json_and_npz_are_read_alike_and_failures_are_left_out(tmp_path: Path) -> None:
    made = episode(1)
    np.savez(tmp_path / "a.npz", **made)
    plain = {"chunks": made["chunks"].tolist(), "executed_index": [3] * 5, "is_success": True, "entropies": [0.1] * 6}
    (tmp_path / "b.json").write_text(json.dumps(plain))
    (tmp_path / "c.json").write_text(json.dumps({**plain, "is_success": False}))
    (tmp_path / "notes.txt").write_text("not an episode")
    (first, second), failed = read_rollouts(tmp_path, width=7)
    assert failed == 1
    assert all((one == other).all() for one, other in zip(first.chunks, second.chunks, strict=True))
    assert (first.executed_index, first.entropies, second.entropies) == ((3,) * 5, None, (0.1,) * 6)


@pytest.mark.parametrize(
    "fault",
    [
        {"chunks": np.zeros((6, 8, 6), np.float32)},
        {"chunks": np.zeros((6, 8), np.float32)},
        {"chunks": np.full((6, 8, 7), np.nan, np.float32)},
        {"chunks": np.array([["x"]])},
        {"executed_index": np.zeros(6, int)},
        {"executed_index": np.full(5, 8)},
        {"executed_index": np.full(5, -1)},
        {"executed_index": np.full(5, 1.5)},
        {"is_success": np.array([True, False])},
        {"is_success": np.array(1)},
        {"entropies": np.zeros(5)},
    ],
)
def test_a_file_that_is_no_episode_is_named(tmp_path: Path, fault: dict[str, Any]) -> None:
    np.savez(tmp_path / "broken.npz", **(episode(1) | fault))
    with pytest.raises(ApiError, match=r"broken\.npz"):
        read_rollouts(tmp_path, width=7)


def test_objects_in_a_file_are_never_unpickled(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **(episode(1) | {"chunks": np.array([{"a": 1}], dtype=object)}))
    (tmp_path / "objects.npz").write_bytes(buffer.getvalue())
    (tmp_path / "cut.npz").write_bytes(buffer.getvalue()[:100])
    with pytest.raises(ApiError):
        read_rollouts(tmp_path, width=7)
    (tmp_path / "cut.npz").unlink()
    with pytest.raises(ApiError, match=r"objects\.npz"):
        read_rollouts(tmp_path, width=7)


def test_too_few_episodes_say_how_many_are_needed(task: Task) -> None:
    write(task.rollouts, 10)
    with pytest.raises(ApiError, match="at least 9"):
        run_task(task)
    assert not task.out.exists()


@pytest.mark.parametrize("changes", [{"alpha": 0.0}, {"alpha": 1.0}, {"held_out": 1.0}, {"robot": "ur5e"}])
def test_what_makes_no_sense_is_refused(task: Task, changes: dict[str, Any]) -> None:
    write(task.rollouts, 30)
    with pytest.raises(ApiError):
        run_task(replace(task, **changes))


def test_the_split_is_spread_evenly_and_loses_nobody() -> None:
    rollouts: Any = list(range(10))
    fitted, held_out = split(rollouts, 1 / 3)
    assert (len(fitted), len(held_out)) == (7, 3)
    assert {*fitted, *held_out} == set(rollouts)
    assert split(rollouts, 0.0) == (rollouts, [])


def test_the_command_prints_the_measured_rate(tmp_path: Path) -> None:
    folder = write(tmp_path / "rollouts", 60)
    words = ("safety", "calibrate", "--rollouts", str(folder), "--out", str(tmp_path / "t.toml"), "--policy", str(POLICY))
    told = vlaapi(inherited(), *words, "--json")
    assert (told.status, told.err) == (0, "")
    assert {score["name"] for score in json.loads(told.out)["scores"]} == {"chunk_consistency", "token_entropy", "action_range"}
    plain = vlaapi(inherited(), *words)
    assert "held-out episodes with an alarm" in plain.out
    empty = vlaapi(inherited(), *words[:3], str(tmp_path), *words[4:])
    assert (empty.status, empty.err.count("\n")) == (2, 1)
