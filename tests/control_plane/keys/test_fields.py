"""What people may type: clean values, and refusals that name the field."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.errors import ApiError
from control_plane.keys.fields import (
    MAX_NUMBER,
    clean_duration,
    clean_email,
    clean_name,
    clean_names,
    clean_networks,
    clean_robots,
    positive,
)


def refused_field(call: object, *arguments: object, **named: object) -> str | None:
    """The field that a refusal names."""
    assert callable(call)
    with pytest.raises(ApiError) as refusal:
        call(*arguments, **named)
    assert refusal.value.kind.code == "invalid_field"
    assert str(refusal.value.param) in refusal.value.message
    return refusal.value.param


@pytest.mark.parametrize(
    "name", ["Acme Robotics", "Müller & Söhne GmbH", "株式会社ロボット", "شركة", "می‌خواهم", "👩‍🔧 Robots", "O'Neil"]
)
def test_names_of_all_the_world_are_kept(name: str) -> None:
    assert clean_name(f"  {name} ", field="company_name", max_length=200) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    "name", ["", "   ", "a\nb", "a\x00b", "a\x1b[31mb", "a\u202eb", "a\u2028b", "a\u200bb", "a\ud800b", "x" * 201]
)
def test_misleading_names_are_refused(name: str) -> None:
    assert refused_field(clean_name, name, field="company_name", max_length=200) == "company_name"


@given(st.text(max_size=30))
def test_what_is_accepted_is_one_visible_line(text: str) -> None:
    try:
        name = clean_name(text, field="name", max_length=20)
    except ApiError:
        return
    assert 1 <= len(name) <= 20
    assert name == name.strip()
    assert len(name.splitlines()) == 1
    assert name.encode()
    assert not any(unicodedata.category(character) == "Cc" for character in name)


@pytest.mark.parametrize("email", ["ops@example.com", "First.Last+robots@sub.example.co.uk", "ümlaut@exämple.de"])
def test_addresses_are_kept_as_written(email: str) -> None:
    assert clean_email(f" {email}\n") == email


NOT_ADDRESSES = [
    *("", "ops", "ops@", "@example.com", "ops@example", "a b@example.com", "a@b@example.com", "a@.com", "a@b..c"),
    *("x" * 65 + "@b.co", "a@" + "b" * 250 + ".co", "a\r\nBcc:x@example.com"),
]


@pytest.mark.parametrize("email", NOT_ADDRESSES)
def test_what_is_not_an_address_is_refused(email: str) -> None:
    assert refused_field(clean_email, email) == "email"


@pytest.mark.parametrize("number", [0, -1, MAX_NUMBER + 1])
def test_limits_are_at_least_one_and_fit_the_table(number: int) -> None:
    assert refused_field(positive, number, field="per_day") == "per_day"


def test_no_number_is_no_number() -> None:
    assert [positive(number, field="per_day") for number in (None, 1, MAX_NUMBER)] == [None, 1, MAX_NUMBER]


def test_networks_are_kept_in_their_usual_form() -> None:
    given = ["203.0.113.7", " 198.51.100.0/24", "2001:DB8::/32", "203.0.113.7/32"]
    assert clean_networks(given) == ("198.51.100.0/24", "2001:db8::/32", "203.0.113.7/32")
    assert clean_networks(None) is None


@pytest.mark.parametrize(
    "network", ["", "10.0.0", "10.0.0.1/8", "10.0.0.0/33", "2001:db8::1/32", "host.example", "::ffff:10.0.0.1", "10.0.0.x"]
)
def test_what_is_no_network_is_refused(network: str) -> None:
    assert refused_field(clean_networks, [network]) == "allowed_ips"


def test_a_list_has_a_bounded_number_of_known_names() -> None:
    assert clean_robots(["ur5e", "franka_panda", "ur5e"]) == ("franka_panda", "ur5e")
    assert clean_names(["openvla-7b"], field="policies") == ("openvla-7b",)
    assert refused_field(clean_robots, ["franka_pnda"]) == "robots"
    assert refused_field(clean_names, ["a b"], field="policies") == "policies"
    assert refused_field(clean_names, [], field="policies") == "policies"
    assert refused_field(clean_networks, ["10.0.0.1"] * 51) == "allowed_ips"


def test_times_are_read_as_people_write_them() -> None:
    lengths = {"24h": 86400, "90m": 5400, "7d": 604800, "30s": 30, "0": 0}
    assert {text: clean_duration(text, field="overlap").total_seconds() for text in lengths} == lengths
    for wrong in ("", "h", "-1h", "1.5h", "24", "1w", "99999999d"):
        assert refused_field(clean_duration, wrong, field="overlap") == "overlap"
