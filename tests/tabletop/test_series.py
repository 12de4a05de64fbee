"""Counting: rows by task and colour with honest bounds, and files that people look at."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tabletop.asking import Measured
from tabletop.curve import Point, draw, draw_losses
from tabletop.episode import Moment, Outcome
from tabletop.film import Film, verdict_of
from tabletop.series import Series
from tabletop.verbs import Task, Verb

pytestmark = pytest.mark.export


def _outcome(thing: str, *, verb: Verb = Verb.PICK_UP, is_success: bool = True, is_wrong: bool = False) -> Outcome:
    return Outcome(
        seed=1,
        task=Task(verb=verb, thing=thing),
        instruction=f"pick up {thing}",
        is_success=is_success,
        is_wrong=is_wrong,
        steps=20,
        held_steps=0,
        lost=None,
    )


def _series() -> Series:
    measured = Measured(round_trips_ms=[10.0, 20.0, 30.0], service_ms=[5.0, 6.0, 7.0], decisions=Counter({"pass": 2, "clamp": 1}))
    outcomes = (
        _outcome("red cube"),
        _outcome("red cylinder", is_success=False, is_wrong=True),
        _outcome("blue cube"),
        _outcome("bowl", verb=Verb.MOVE_TO),
    )
    return Series(outcomes=outcomes, measured=measured)


def test_rows_count_by_task_and_colour() -> None:
    rows = {row.name: row for row in _series().rows()}
    assert list(rows) == ["all", "pick up", "move to", "pick up, blue", "pick up, red", "move to, bowl"]
    assert (rows["all"].succeeded, rows["all"].episodes, rows["all"].wrong) == (3, 4, 1)
    assert rows["pick up, red"].cells == ("pick up, red", "1/2", "9.4–90.5 %", "1", "2.0 s")
    assert rows["all"].low < 0.75 < rows["all"].high


def test_latency_and_interventions_are_told() -> None:
    series = _series()
    assert series.latency()["round_trip_p50_ms"] == 20.0
    assert series.latency()["service_p50_ms"] == 6.0
    assert series.interventions() == {"clamp": 1}
    assert Series(outcomes=(), measured=Measured()).latency() == {}


def test_the_curve_and_the_losses_are_pictures(tmp_path: Path) -> None:
    row = _series().row("all")
    draw({"http, with overlap": [Point(delay_ms=0, row=row), Point(delay_ms=400, row=row)]}, "title", tmp_path / "delay.png")
    draw_losses([{"step": 1, "motion": 0.1}, {"step": 2, "motion": 0.05}], tmp_path / "losses.png")
    for name in ("delay.png", "losses.png"):
        with Image.open(tmp_path / name) as opened:
            picture = np.asarray(opened.convert("RGB"))
        assert picture.min() < 100 < picture.max()


def test_a_film_has_a_frame_per_step_and_a_sheet_of_moments(tmp_path: Path) -> None:
    picture = np.full((64, 64, 3), 120, dtype=np.uint8)
    moments = [
        Moment(
            step=step,
            observation={"front": picture, "wrist": picture},
            action=None if step < 2 else np.array([0.01, 0, 0, 0, 0, 0.05, 1], dtype=np.float32),
            answer=None,
            error="connection_lost: refused" if step == 0 else None,
        )
        for step in range(12)
    ]
    film = Film(moments=moments, outcome=_outcome("red cube"))
    film.animation(tmp_path / "a.gif")
    film.sheet(tmp_path / "a.png")
    with Image.open(tmp_path / "a.gif") as animation:
        assert getattr(animation, "n_frames", 1) >= 2
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.size == (3 * 620, 3 * 320)
    assert verdict_of(film.outcome) == "done in 2.0 s"
