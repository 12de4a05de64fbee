"""Which step is due: nothing twice, nothing stale, nothing skipped that was never due."""

import numpy as np
import pytest

from tests.client.making import action
from vlaapi_client.timeline import Due, Given, Timeline

COUNT = [float(k) for k in range(8)]


def value(given: Given) -> float:
    assert given.due is Due.MOVE
    assert given.values is not None
    return float(given.values[0])


def started(*, at_s: float = 0.0, **options: float) -> Timeline:
    """A timeline whose first chunk was asked for and came at `at_s`."""
    timeline = Timeline(**{"max_age_s": 2.0, **options})  # type: ignore[arg-type]  # blend_steps comes as a number too
    assert timeline.arrive(timeline.observe(at_s), action(COUNT), at_s)
    return timeline


def test_before_the_first_chunk_it_holds() -> None:
    given = Timeline(max_age_s=2.0).step(0.0)
    assert (given.due, given.values, given.index) == (Due.HOLD, None, None)


def test_a_loop_at_the_models_rate_gets_every_step_once_whatever_its_jitter() -> None:
    timeline, random = started(), np.random.default_rng(3)
    times = [0.1 * k + (random.uniform(-0.02, 0.02) if k else 0.0) for k in range(8)]
    assert [value(timeline.step(now_s)) for now_s in times] == COUNT
    assert timeline.step(0.8).due is Due.HOLD


def test_a_faster_loop_waits_between_and_gets_no_step_twice() -> None:
    timeline = started()
    given = [timeline.step(0.02 * k) for k in range(38)]
    assert [value(one) for one in given if one.due is Due.MOVE] == COUNT
    assert {one.due for one in given} == {Due.MOVE, Due.WAIT}
    assert all(one.values is None for one in given if one.due is Due.WAIT)


def test_a_loop_that_stood_still_skips_what_is_over() -> None:
    timeline = started()
    assert value(timeline.step(0.0)) == 0
    assert value(timeline.step(0.41)) == 4


def test_the_first_chunk_begins_when_it_is_first_executed_however_long_it_took() -> None:
    timeline = Timeline(max_age_s=2.0)
    ticket = timeline.observe(0.0)
    for k in range(9):
        assert timeline.step(0.1 * k).due is Due.HOLD
    assert timeline.arrive(ticket, action(COUNT), 0.85)
    assert [value(timeline.step(0.9 + 0.1 * k)) for k in range(8)] == COUNT


def test_of_the_next_chunk_what_was_executed_meanwhile_is_skipped() -> None:
    timeline = started()
    for k in range(4):
        timeline.step(0.1 * k)
    ticket = timeline.observe(0.4)
    assert (value(timeline.step(0.4)), value(timeline.step(0.5))) == (4, 5)
    assert timeline.arrive(ticket, action([10.0 + k for k in range(8)]), 0.55)
    assert [value(timeline.step(0.6 + 0.1 * k)) for k in range(6)] == [12, 13, 14, 15, 16, 17]
    assert timeline.step(1.2).due is Due.HOLD


def test_what_was_held_is_not_skipped() -> None:
    timeline = started()
    for k in range(6):
        timeline.step(0.1 * k)
    ticket = timeline.observe(0.6)
    assert [timeline.step(0.6 + 0.1 * k).due for k in range(5)] == [Due.MOVE, Due.MOVE, Due.HOLD, Due.HOLD, Due.HOLD]
    assert timeline.arrive(ticket, action([10.0 + k for k in range(8)]), 1.05)
    assert value(timeline.step(1.1)) == 12  # two were executed, the rest was held


def test_a_new_chunk_does_not_give_two_steps_in_one_period() -> None:
    timeline = started()
    ticket = timeline.observe(0.0)
    timeline.step(0.0)
    assert timeline.arrive(ticket, action([10.0 + k for k in range(8)]), 0.03)
    assert timeline.step(0.04).due is Due.WAIT
    assert value(timeline.step(0.1)) == 11


def test_nothing_older_than_the_bound_is_given() -> None:
    timeline = started(max_age_s=0.35)
    assert [timeline.step(0.1 * k).due for k in range(5)] == [Due.MOVE] * 4 + [Due.HOLD]
    late = timeline.observe(1.0)
    assert not timeline.arrive(late, action(COUNT), 1.4)
    assert timeline.step(1.4).due is Due.HOLD


def test_a_chunk_that_is_over_before_it_comes_is_not_taken_and_what_runs_goes_on() -> None:
    timeline = started()
    ticket = timeline.observe(0.0)
    for k in range(5):
        timeline.step(0.1 * k)
    assert not timeline.arrive(ticket, action([10.0, 11.0]), 0.45)
    assert value(timeline.step(0.5)) == 5
    assert timeline.observe(0.6).executed_index is None  # the service remembers a chunk that nobody executed


def test_dropping_holds_at_once() -> None:
    timeline = started()
    timeline.step(0.0)
    timeline.drop(0.05)
    assert timeline.step(0.1).due is Due.HOLD
    assert timeline.left(0.1) == 0.0


def test_an_observation_says_what_had_been_executed() -> None:
    timeline = Timeline(max_age_s=2.0)
    assert timeline.observe(0.0).executed_index is None
    timeline = started()
    assert timeline.observe(0.0).executed_index == -1
    timeline.step(0.0)
    timeline.step(0.1)
    assert timeline.observe(0.2).executed_index == 1
    timeline.lose()
    assert timeline.observe(0.2).executed_index is None


def test_what_is_left_counts_down() -> None:
    timeline = started()
    assert [round(timeline.left(0.1 * k), 3) for k in (0, 2, 4, 7)] == [1.0, 0.75, 0.5, 0.125]


def test_blending_is_off_unless_asked_for_and_leaves_the_gripper_alone() -> None:
    chunks = []
    for blend_steps in (0, 3):
        timeline = started(blend_steps=blend_steps)
        ticket = timeline.observe(0.0)
        timeline.step(0.0)
        timeline.arrive(ticket, action([10.0 + k for k in range(8)]), 0.05)
        given = [timeline.step(0.1 * k) for k in range(1, 6)]
        assert all(one.values is not None and one.values[6] == 1.0 for one in given)
        chunks.append([value(one) for one in given])
    assert chunks == [[11, 12, 13, 14, 15], [pytest.approx(1 + 2.5), pytest.approx(2 + 5), pytest.approx(3 + 7.5), 14, 15]]


@pytest.mark.parametrize("wrong", [{"max_age_s": 0.0}, {"max_age_s": float("nan")}, {"max_age_s": 1.0, "blend_steps": -1}])
def test_bounds_are_bounds(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="max_age_s"):
        Timeline(**wrong)  # type: ignore[arg-type]  # as above
