"""docs/SAFETY.md keeps up with the rules, the reasons, the robots and the Panda's numbers, and claims nothing it must not."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from safety.profile import Number, Numbers, Preset, known_robots
from safety.rules.names import ALL_RULES
from safety.verdict import NotEvaluated, RefusedFor
from tests.safety.factories import panda, panda_guard

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "SAFETY.md").read_text(encoding="utf-8").replace("−", "-")
DISCLAIMER = """
The action guard checks numbers. It compares the model's output, and the state your client reports, with configured limits. It
does not see people, objects, forces or your robot; it cannot act after the response has left; it is not a safety function in the
sense of ISO 10218, ISO 13849 or IEC 61508 and has no SIL or PL. A score of 1.0 means no configured check failed, not that the
motion is safe. Keep the robot's own limits, emergency stop, protective stops and a watchdog that stops on a missing or late
response.
"""


@pytest.mark.parametrize("rule_id", ALL_RULES)
def test_every_rule_is_documented(rule_id: str) -> None:
    assert f"`{rule_id}`" in PAGE


@pytest.mark.parametrize("reason", [*NotEvaluated, *RefusedFor])
def test_every_reason_is_documented(reason: NotEvaluated | RefusedFor) -> None:
    assert f"| `{reason}` |" in PAGE


@pytest.mark.parametrize("robot_type", known_robots())
def test_every_robot_is_documented(robot_type: str) -> None:
    assert f"`{robot_type}`" in PAGE


def test_every_number_of_the_panda_is_documented() -> None:
    profile = panda()
    for section in (profile.cartesian, profile.joints, profile.gripper, profile.reduced):
        for entry in fields(section):
            number: Number | Numbers | None = getattr(section, entry.name)
            values = () if number is None else (number.value,) if isinstance(number, Number) else number.values
            assert all(f"{value:.12g}" in PAGE for value in values), entry.name


@pytest.mark.parametrize("preset", list(Preset))
def test_the_speeds_of_each_preset_are_documented(preset: Preset) -> None:
    limits = panda_guard(preset=preset).limits
    assert f"`{preset}` {limits.linear_speed_m_per_s:g} m/s" in PAGE
    assert f"`{preset}` {limits.angular_speed_rad_per_s:g} rad/s" in PAGE


def test_the_disclaimer_is_there_word_for_word() -> None:
    assert " ".join(DISCLAIMER.split()) in " ".join(PAGE.split())


@pytest.mark.parametrize(
    "path", [*sorted((ROOT / "safety").rglob("*.py")), ROOT / "docs" / "SAFETY.md"], ids=lambda path: path.name
)
def test_nowhere_is_it_called_what_it_is_not(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        if re.search(r"safety function|\bSIL\b|\bPL\b|certified|protective stop", line):
            assert re.search(r"\bnot\b|\bno\b|false|False|Keep the robot's own limits", line), line
