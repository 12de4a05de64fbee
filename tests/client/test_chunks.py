"""The broker with a clock and a thread that the test moves: what is asked when, and what each failure does to the motion."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.client.making import FRAME, answer, told
from vlaapi_client import ChunkBroker, Due, Plan, Refused, Step
from vlaapi_client.errors import ConnectionLost, InvalidRequest, NotAllowed, Superseded, Unavailable, VlaError
from vlaapi_client.results import Answer, answer_from


class Robot:
    """A control loop at 10 Hz, a service whose answers the test decides, and the one clock of both."""

    def __init__(self, plan: Plan | None = None, **options: Any) -> None:
        self.now_s = 50.0
        self.asked: list[dict[str, Any]] = []
        self.work: list[Callable[[], None]] = []
        self.outcome: Answer | VlaError = answer([[float(k)] * 7 for k in range(8)])
        clock = lambda: self.now_s  # noqa: E731 -- the test's clock is one number
        self.broker = ChunkBroker(self, "pick up red cube", plan, clock=clock, wall=clock, submit=self.work.append, **options)

    def infer(self, pictures: Any, instruction: str, *, deadline_ms: int | None = None, **fields: Any) -> Answer:
        self.asked.append({"pictures": pictures, "instruction": instruction, "deadline_ms": deadline_ms, **fields})
        if isinstance(self.outcome, VlaError):
            raise self.outcome
        return self.outcome

    def tick(self, *, state: list[float] | None = None) -> Step:
        step = self.broker.step(FRAME, state)
        self.now_s += 0.1
        return step

    def arrive(self, outcome: Answer | VlaError | None = None) -> None:
        """The request in flight is answered now."""
        self.outcome = outcome or self.outcome
        self.work.pop(0)()

    def started(self) -> "Robot":
        self.tick()
        self.arrive()
        return self


def refusal() -> Refused:
    import json

    with pytest.raises(Refused) as refused:
        answer_from(json.dumps(told([], decision="reject", refused_for="motion", expires_in_ms=None)).encode(), {}, 1.0)
    return refused.value


def test_it_asks_once_and_holds_until_there_is_a_chunk() -> None:
    robot = Robot()
    assert [robot.tick().due for _ in range(3)] == [Due.HOLD] * 3
    assert len(robot.work) == 1
    robot.arrive()
    step = robot.tick()
    assert (step.due, step.index, step.error) == (Due.MOVE, 0, None)
    assert step.answer is robot.outcome


def test_the_next_chunk_is_asked_for_while_half_of_this_one_is_left_and_motion_never_pauses() -> None:
    robot, indices = Robot().started(), []
    for _ in range(40):
        step = robot.tick()
        assert step.due is Due.MOVE
        indices.append(step.index)
        if robot.work and indices[-1] in {5, 6}:  # the answer takes one or two ticks
            robot.arrive()
    assert indices[:6] == [0, 1, 2, 3, 4, 5]
    assert len(robot.asked) > 5


def test_every_request_says_what_the_guard_wants_to_know() -> None:
    robot = Robot(Plan(fields={"model": "tabletop", "safety": {"linear_speed_m_per_s": 0.1}}, deadline_ms=300)).started()
    for _ in range(5):
        robot.tick(state=[0.5])
    robot.arrive()
    first, second = robot.asked
    assert first["executed_index"] is None
    assert (first["seq"], second["seq"]) == (0, 1)
    assert first["session_id"] == second["session_id"] != ""
    assert second["executed_index"] == 3
    assert second["state"] == [0.5]
    assert second["network_rtt_ms"] == 2.0
    assert second["obs_age_ms"] == pytest.approx(100)
    assert second["model"] == "tabletop"
    assert second["deadline_ms"] == 300


def test_a_late_chunk_means_holding_and_then_going_on_where_the_robot_is() -> None:
    robot = Robot().started()
    dues = [robot.tick().due for _ in range(10)]
    assert dues == [Due.MOVE] * 8 + [Due.HOLD] * 2
    robot.arrive(answer([[10.0 + k] * 7 for k in range(8)]))
    step = robot.tick()
    assert step.values is not None
    assert step.values[0] == 14.0  # asked at step 4, four more were executed since


def test_what_may_pass_rides_on_the_chunk_and_is_asked_again_after_the_wait() -> None:
    robot = Robot().started()
    for _ in range(5):
        robot.tick()
    robot.arrive(Unavailable("overloaded", "full", retry_after_s=0.15, is_retryable=True))
    assert [robot.tick().due for _ in range(2)] == [Due.MOVE] * 2
    assert not robot.work
    step = robot.tick()
    assert (step.due, step.error and step.error.code) == (Due.MOVE, "overloaded")
    assert len(robot.work) == 1  # the wait is over
    robot.arrive(answer())
    assert robot.tick().error is None


def test_after_a_lost_answer_it_does_not_claim_to_know_what_was_executed() -> None:
    robot = Robot().started()
    for _ in range(5):
        robot.tick()
    robot.arrive(ConnectionLost("connection_lost", "reset", is_retryable=True))
    robot.tick()
    robot.tick()
    robot.arrive(answer())
    assert robot.asked[-1]["executed_index"] is None


def test_a_refusal_holds_at_once_and_asks_again() -> None:
    robot = Robot().started()
    for _ in range(5):
        robot.tick()
    robot.arrive(refusal())
    step = robot.tick()
    assert step.due is Due.HOLD
    assert step.values is None
    assert isinstance(step.error, Refused)
    assert robot.tick().due is Due.HOLD
    robot.arrive(answer())
    assert robot.tick().due is Due.MOVE


@pytest.mark.parametrize("error", [NotAllowed("revoked_key", "gone"), InvalidRequest("invalid_state", "two numbers are missing")])
def test_what_no_later_observation_can_cure_is_raised_and_stays_raised(error: VlaError) -> None:
    robot = Robot().started()
    for _ in range(5):
        robot.tick()
    robot.arrive(error)
    for _ in range(2):
        with pytest.raises(type(error)):
            robot.tick()
    robot.broker.reset()
    assert robot.tick().due is Due.HOLD


def test_superseded_means_going_on() -> None:
    robot = Robot().started()
    for _ in range(5):
        robot.tick()
    robot.arrive(Superseded("superseded", "a newer one"))
    assert robot.tick().due is Due.MOVE
    assert len(robot.work) == 1


def test_a_new_episode_drops_the_motion_and_ignores_the_answer_on_its_way() -> None:
    robot = Robot().started()
    for _ in range(5):
        robot.tick()
    robot.broker.reset("pick up blue cube")
    assert robot.tick().due is Due.HOLD
    robot.arrive()  # of the old episode
    assert robot.tick().due is Due.HOLD
    robot.arrive()
    assert robot.tick().due is Due.MOVE
    assert robot.asked[-1]["instruction"] == "pick up blue cube"
    assert robot.asked[-1]["session_id"] != robot.asked[0]["session_id"]
    assert robot.asked[-1]["seq"] == 0


def test_nothing_old_is_executed() -> None:
    robot = Robot(Plan(max_age_s=0.4)).started()
    assert [robot.tick().due for _ in range(5)].count(Due.HOLD) == 2


def test_a_closed_broker_asks_for_nothing_more() -> None:
    robot = Robot()
    robot.broker.close()
    assert robot.tick().due is Due.HOLD
    assert robot.work == []
