"""docs/SAFETY.md keeps up with the rules, the reasons and the Panda's numbers."""

from dataclasses import fields
from pathlib import Path

import pytest

from safety.profile import Number, Numbers, Preset
from safety.verdict import NotEvaluated
from tests.safety.factories import chunk, panda, panda_guard

PAGE = (Path(__file__).parents[2] / "docs" / "SAFETY.md").read_text(encoding="utf-8").replace("−", "-")


@pytest.mark.parametrize("rule_id", [result.id for result in panda_guard().check(chunk()).rules])
def test_every_rule_is_documented(rule_id: str) -> None:
    assert f"`{rule_id}`" in PAGE


@pytest.mark.parametrize("reason", sorted({result.reason for result in panda_guard().check(None).rules if result.reason}))
def test_every_reason_that_occurs_is_documented(reason: NotEvaluated) -> None:
    assert f"`{reason}`" in PAGE


@pytest.mark.parametrize("rule_id", [result.id for result in panda_guard().check(chunk()).rules if result.score is None])
def test_a_rule_that_does_not_look_stands_beside_its_reason(rule_id: str) -> None:
    reason = next(result.reason for result in panda_guard().check(chunk()).rules if result.id == rule_id)
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| `{reason}`")]
    assert any(f"`{rule_id}`" in row for row in rows)


def test_every_number_of_the_profile_is_documented() -> None:
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
