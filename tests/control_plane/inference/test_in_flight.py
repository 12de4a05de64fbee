"""Places and arriving bodies are bounded, and always given back."""

from contextlib import ExitStack
from uuid import uuid4

import pytest

from control_plane.errors import ApiError
from control_plane.inference.in_flight import InFlight
from control_plane.metrics import create_metrics
from control_plane.tallies import Tallies


def places(limit: int) -> InFlight:
    return InFlight(limit=limit, gauge=Tallies().count(create_metrics().in_flight))


def test_all_places_taken_means_overloaded() -> None:
    in_flight = places(1)
    with in_flight.place(uuid4(), 9), pytest.raises(ApiError) as caught:
        in_flight.shed()
    assert caught.value.kind.code == "overloaded"
    in_flight.shed()


def test_bodies_of_one_customer_are_held_to_their_concurrency_and_others_are_not() -> None:
    in_flight, greedy = places(100), uuid4()
    with in_flight.reading(greedy, 2), in_flight.reading(greedy, 2):
        with pytest.raises(ApiError) as caught, in_flight.reading(greedy, 2):
            pass
        assert caught.value.kind.code == "concurrency_limit"
        with in_flight.reading(uuid4(), 2):
            pass
    with in_flight.reading(greedy, 2):
        pass


def test_a_body_that_fails_frees_its_count() -> None:
    in_flight, customer = places(100), uuid4()
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"), in_flight.reading(customer, 1):
            raise ValueError("broken")


def test_the_last_eighth_is_for_customers_who_hold_few() -> None:
    in_flight, greedy = places(16), uuid4()
    with ExitStack() as held:
        for _ in range(14):
            held.enter_context(in_flight.place(greedy, 99))
        with pytest.raises(ApiError) as caught, in_flight.place(greedy, 99):
            pass
        assert caught.value.kind.code == "overloaded"
        for _ in range(2):
            held.enter_context(in_flight.place(uuid4(), 99))
        with pytest.raises(ApiError), in_flight.place(uuid4(), 99):
            pass
    with in_flight.place(greedy, 99):
        pass


def test_a_customer_holds_at_most_as_many_places_as_they_may_send_at_once() -> None:
    in_flight, customer = places(100), uuid4()
    with in_flight.place(customer, 2), in_flight.place(customer, 2):
        with pytest.raises(ApiError) as caught, in_flight.place(customer, 2):
            pass
        assert caught.value.kind.code == "concurrency_limit"
    with in_flight.place(customer, 2):
        pass
