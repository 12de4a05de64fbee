"""What customers are told about their limits."""

import re

from hypothesis import given
from hypothesis import strategies as st

from control_plane.limits.standing import Standing, Window

ITEM = r'"[a-z-]+";q=\d+;w=\d+'
LEFT = r'"[a-z-]+";r=\d+;t=\d+'
NUMBERS = st.integers(min_value=0, max_value=10**12)


def a_window(name: str = "minute", **values: int) -> Window:
    """A minute of 10 with 4 left, unless said otherwise."""
    usual = {"quota": 10, "length_s": 60, "remaining": 4, "grows_in_us": 1_200_000, "full_in_us": 31_200_000}
    return Window(name=name, **usual | values)


def test_both_families_of_headers_are_sent() -> None:
    day = a_window("day", quota=1000, length_s=86_400, remaining=900, grows_in_us=3_600_000_000, full_in_us=3_600_000_000)
    assert Standing(minute=a_window(), day=day).headers() == {
        "RateLimit-Policy": '"minute";q=10;w=60, "day";q=1000;w=86400',
        "RateLimit": '"minute";r=4;t=2, "day";r=900;t=3600',
        "X-RateLimit-Limit-Requests": "10",
        "X-RateLimit-Remaining-Requests": "4",
        "X-RateLimit-Reset-Requests": "32s",
    }


def test_the_tighter_of_account_and_key_is_the_one_simple_clients_read() -> None:
    own = a_window("key-minute", quota=2, remaining=1)
    assert Standing(minute=a_window(), key_minute=own).headers()["X-RateLimit-Remaining-Requests"] == "1"
    assert Standing(minute=a_window(remaining=0), key_minute=own).headers()["X-RateLimit-Remaining-Requests"] == "0"


def test_a_refusal_rounds_the_wait_up() -> None:
    refused = Standing(minute=a_window(remaining=0)).refusal("minute", 2_000_001)
    assert (refused.headers["Retry-After"], refused.retry_after_ms) == ("3", 2_001)


def test_the_shortest_retry_after_is_a_second_but_the_exact_wait_is_told_too() -> None:
    refused = Standing(minute=a_window(remaining=0)).refusal("minute", 1)
    assert (refused.headers["Retry-After"], refused.retry_after_ms) == ("1", 1)


def test_every_refusal_has_its_code_and_the_headers() -> None:
    standing = Standing(minute=a_window())
    codes = {by: standing.refusal(by, 5_000_000).kind.code for by in ("minute", "day", "month", "concurrency")}
    assert codes == {by: f"{by}_limit" for by in codes}
    assert standing.headers().items() <= standing.refusal("day", 5_000_000).headers.items()


@given(quota=NUMBERS, length_s=NUMBERS, remaining=NUMBERS, grows_in_us=NUMBERS, full_in_us=NUMBERS)
def test_the_headers_are_always_well_formed(**values: int) -> None:
    headers = Standing(minute=a_window("minute", **values), month=a_window("month", **values)).headers()
    assert re.fullmatch(f"{ITEM}, {ITEM}", headers["RateLimit-Policy"])
    assert re.fullmatch(f"{LEFT}, {LEFT}", headers["RateLimit"])
    assert re.fullmatch(r"\d+s", headers["X-RateLimit-Reset-Requests"])
    seconds = int(headers["X-RateLimit-Reset-Requests"][:-1])
    assert seconds * 1_000_000 >= values["full_in_us"] > (seconds - 1) * 1_000_000
