"""`vlaapi safety …` as an operator meets it: real stores, one line for every refusal, everything in the history."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.test_cli import Done, Environment, create, environment, vlaapi

__all__ = ["environment"]


@pytest.fixture
def customer(environment: Environment) -> str:
    made: Any = create(environment)
    id_: str = made["customer"]["id"]
    return id_


def safety(environment: Environment, word: str, customer: str, *words: str) -> Done:
    return vlaapi(environment, "safety", word, "--customer", customer, *words)


def shown(environment: Environment, customer: str) -> dict[str, Any]:
    done = safety(environment, "show", customer, "--json")
    assert (done.status, done.err) == (0, "")
    told: dict[str, Any] = json.loads(done.out)
    return told


def test_a_new_customer_has_nothing_of_their_own(environment: Environment, customer: str) -> None:
    assert shown(environment, customer) == {
        "settings": {},
        "preset": None,
        "version": 0,
        "changed_by": None,
        "changed_at": None,
    }


def test_single_limits_are_put_on_top_of_what_is_there(environment: Environment, customer: str) -> None:
    robot = ("--robot", "franka_panda")
    assert safety(environment, "set", customer, *robot, "--linear-speed", "0.1").status == 0
    assert safety(environment, "set", customer, *robot, "--workspace", "0.2,-0.4,0,0.7,0.4,0.6").status == 0
    assert safety(environment, "set", customer, "--require", "D1", "--require", "D2", "--on-reject", "error").status == 0
    told = shown(environment, customer)
    assert told["settings"] == {
        "limits": {"required_rules": ["D1", "D2"]},
        "robots": {
            "franka_panda": {
                "linear_speed_m_per_s": 0.1,
                "workspace": {"low_m": [0.2, -0.4, 0.0], "high_m": [0.7, 0.4, 0.6]},
            }
        },
        "on_reject": "error",
    }
    assert told["version"] == 3
    assert told["changed_by"].startswith("operator ")


def test_a_file_replaces_everything(environment: Environment, customer: str, tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    file.write_text("on_reject = 'error'\n[instruction]\nmode = 'deny_list'\n")
    safety(environment, "set", customer, "--linear-speed", "0.1")
    assert safety(environment, "set", customer, "--file", str(file)).status == 0
    assert shown(environment, customer)["settings"] == {"instruction": {"mode": "deny_list"}, "on_reject": "error"}


def test_an_allow_list_comes_from_a_file(environment: Environment, customer: str, tmp_path: Path) -> None:
    file = tmp_path / "words.json"
    words = {"mode": "allow_list", "templates": ["pick up {thing}"], "slots": {"thing": ["red cube"]}}
    file.write_text(json.dumps(words))
    assert safety(environment, "set", customer, "--instruction", str(file)).status == 0
    assert shown(environment, customer)["settings"]["instruction"] == words
    assert safety(environment, "set", customer, "--instruction", "off").status == 0
    assert shown(environment, customer)["settings"]["instruction"] == {"mode": "off"}


def test_the_manufacturers_speeds_are_an_operators_to_give_and_allow_more(environment: Environment, customer: str) -> None:
    fast = ("--robot", "franka_panda", "--linear-speed", "1.0")
    assert safety(environment, "set", customer, *fast).status == 2
    assert safety(environment, "set", customer, "--preset", "manufacturer").status == 0
    assert safety(environment, "set", customer, *fast).status == 0
    assert shown(environment, customer)["preset"] == "manufacturer"


def test_the_history_says_who_and_what_and_clearing_is_in_it(environment: Environment, customer: str) -> None:
    safety(environment, "set", customer, "--linear-speed", "0.1")
    assert safety(environment, "clear", customer).status == 0
    done = safety(environment, "audit", customer, "--json")
    second, first = json.loads(done.out)["changes"]
    assert (first["version"], first["before"]["settings"], second["after"]) == (1, {}, {"settings": {}, "preset": None})
    assert second["before"]["settings"] == {"limits": {"linear_speed_m_per_s": 0.1}}
    assert "operator" in safety(environment, "audit", customer).out


WRONG: tuple[tuple[tuple[str, ...], str], ...] = (
    ((), "say what to change"),
    (("--linear-speed", "9"), "settings.limits.linear_speed_m_per_s"),
    (("--linear-speed", "nan"), "linear_speed_m_per_s"),
    (("--linear-speed", "-1"), "linear_speed_m_per_s"),
    (("--workspace", "1,2,3"), "workspace needs 6 numbers"),
    (("--workspace", "1,1,1,0,0,0"), "workspace"),
    (("--workspace", "0,0,nan,1,1,1"), "workspace needs 6 numbers"),
    (("--require", "Z9"), "required_rules"),
    (("--disable", "A2"), "disabled_rules"),
    (("--on-reject", "explode"), "on_reject"),
    (("--instruction", "/nowhere.toml"), "cannot be read"),
    (("--file", "/nowhere.toml"), "cannot be read"),
    (("--robot", "nobody", "--linear-speed", "0.1"), "There is no robot"),
    (("--calibration", __file__), "calibrations[0]"),
)


def test_what_cannot_hold_is_one_line_and_changes_nothing(environment: Environment, customer: str) -> None:
    for words, complaint in WRONG:
        done = safety(environment, "set", customer, *words)
        assert (done.status, done.out, done.err.count("\n")) == (2, "", 1), (words, done)
        assert complaint in done.err
    assert shown(environment, customer)["version"] == 0


def test_a_customer_that_does_not_exist_is_one_line(environment: Environment) -> None:
    for id_ in ("cus_00000000000000000000000000000000", "nobody"):
        done = safety(environment, "set", id_, "--linear-speed", "0.1")
        assert (done.status, done.err.count("\n")) == (2, 1)
