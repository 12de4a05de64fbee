"""The simulated robot asks as a real one would: it moves while it waits, holds when nothing comes, and says why it gave up."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tabletop.asking import Customer, Denied, InProcess
from tabletop.drive import from_onnx
from tabletop.env import Settings, TabletopEnv
from tabletop.episode import GIVE_UP_STEPS, Manner, Moment, run
from tabletop.series import episodes
from tabletop.things import Layout
from vlaapi_client import Answer, ConnectionLost, QuotaUsedUp, RateLimited

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("camera")]
SEED = 9_000_000
SETTINGS = Settings(layout=Layout.CUBES, cameras=("front",))
SERVED = Path("model_repository/tabletop/1/model.onnx")


class Scripted:
    """Asks the served graph, but first does what the script says of the nth request."""

    def __init__(self, script: Callable[[int], None]) -> None:
        self._graph, self._script, self.asked = InProcess(from_onnx(SERVED)), script, 0
        self.fields: list[dict[str, Any]] = []

    def infer(self, pictures: Any, instruction: str, *, deadline_ms: int | None = None, **fields: Any) -> Answer:
        self.asked += 1
        self.fields.append(fields)
        self._script(self.asked)
        return self._graph.infer(pictures, instruction, deadline_ms=deadline_ms, **fields)


def _customer(script: Callable[[int], None]) -> tuple[Customer, Scripted, list[float]]:
    slept: list[float] = []
    scripted = Scripted(script)
    return Customer(scripted, sleep=slept.append), scripted, slept


def test_an_episode_through_a_customer_succeeds_and_is_measured() -> None:
    customer, scripted, _ = _customer(lambda _: None)
    moments: list[Moment] = []
    with closing(TabletopEnv(SETTINGS)) as env:
        outcome = run(env, customer, SEED, Manner(), watch=moments.append)
    assert outcome.is_success
    assert not outcome.is_wrong
    assert outcome.held_steps == 0
    assert len(moments) == outcome.steps
    assert len(customer.measured.round_trips_ms) == scripted.asked
    assert [fields["seq"] for fields in scripted.fields] == list(range(scripted.asked))


@pytest.mark.parametrize("every", [1, 2, 8])
def test_a_robot_asks_as_often_as_it_is_told_to(every: int) -> None:
    customer, scripted, _ = _customer(lambda _: None)
    with closing(TabletopEnv(SETTINGS)) as env:
        outcome = run(env, customer, SEED, Manner(ask_every=every))
    assert outcome.is_success
    assert abs(scripted.asked - outcome.steps / every) <= 1


def test_a_delay_costs_motion_and_overlap_gives_it_back() -> None:
    found = {}
    with closing(TabletopEnv(SETTINGS)) as env:
        for has_overlap in (True, False):
            asks = InProcess(from_onnx(SERVED))
            found[has_overlap] = run(env, asks, SEED, Manner(delay_ms=300, has_overlap=has_overlap))
    assert found[True].held_steps == 3  # only before the first answer
    assert found[False].held_steps > 3
    assert found[True].seconds < found[False].seconds


def test_a_service_that_goes_away_makes_the_robot_hold_and_the_episode_says_so() -> None:
    def goes(nth: int) -> None:
        if nth > 2:
            raise ConnectionLost("connection_lost", "refused", is_retryable=True)

    customer, _, slept = _customer(goes)
    with closing(TabletopEnv(SETTINGS)) as env:
        outcome = run(env, customer, SEED, Manner())
    assert not outcome.is_success
    assert outcome.held_steps >= GIVE_UP_STEPS
    assert outcome.lost == "held for 3 s and gave up: connection_lost: refused"
    assert customer.measured.errors["connection_lost"] == len(slept) > 3


def test_a_service_that_comes_back_is_gone_on_with() -> None:
    def away(nth: int) -> None:
        if 2 < nth < 12:
            raise ConnectionLost("connection_lost", "refused", is_retryable=True)

    customer, _, _ = _customer(away)
    with closing(TabletopEnv(SETTINGS)) as env:
        outcome = run(env, customer, SEED, Manner())
    assert outcome.is_success
    assert outcome.held_steps > 0
    assert outcome.lost is None


def test_a_series_stops_at_an_episode_that_was_given_up() -> None:
    def away(_: int) -> None:
        raise ConnectionLost("connection_lost", "refused", is_retryable=True)

    customer, _, _ = _customer(away)
    with closing(TabletopEnv(SETTINGS)) as env:
        series = episodes(env, customer, range(SEED, SEED + 3), Manner())
    assert len(series.outcomes) == 1
    assert series.told()["lost"] == [{"seed": SEED, "why": "held for 3 s and gave up: connection_lost: refused"}]


@pytest.mark.parametrize("seconds", [None, 7.0])
def test_a_limit_of_the_minute_is_waited_out(seconds: float | None) -> None:
    def full(nth: int) -> None:
        if nth == 2:
            raise RateLimited("rate_limit_exceeded", "full", retry_after_s=seconds, is_retryable=True)

    customer, _, slept = _customer(full)
    with closing(TabletopEnv(SETTINGS)) as env:
        outcome = run(env, customer, SEED, Manner())
    assert outcome.is_success
    assert slept == [1.0 if seconds is None else seconds]


def test_a_key_out_of_quota_ends_the_run_with_one_line() -> None:
    def used_up(nth: int) -> None:
        if nth == 2:
            raise QuotaUsedUp("daily_quota_exceeded", "1000 of 1000 requests of today are used")

    customer, _, _ = _customer(used_up)
    with closing(TabletopEnv(SETTINGS)) as env, pytest.raises(Denied, match="daily_quota_exceeded: 1000 of 1000"):
        run(env, customer, SEED, Manner())


def test_a_limit_that_never_ends_is_not_waited_for_without_end() -> None:
    def full(_: int) -> None:
        raise RateLimited("rate_limit_exceeded", "full", retry_after_s=900.0, is_retryable=True)

    customer, _, slept = _customer(full)
    with pytest.raises(Denied, match="something else uses this customer"):
        customer.infer(np.zeros((8, 8, 3), dtype=np.uint8), "pick up red cube")
    assert slept == [65.0] * 3
    assert customer.measured.errors == {"rate_limit_exceeded": 3}
