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


# Whatever a customer, an operator or a reader of the code can see; this repository's tests quote what must not be said.
SHOWN = (
    "README.md",
    "docs",
    "control_plane",
    "safety",
    "billing",
    "export",
    "client",
    "deploy",
    "examples",
    "dashboards",
    "benchmarks",
)
KINDS = {".md", ".py", ".toml", ".template", ".yml", ".yaml", ".json", ".html", ".sql", ".txt"}
CLAIMS = re.compile(
    r"safety[- ](function|rated|related)|functional safety|\bSIL\b|\bPL\b(?!/)|\bcertified\b|protective stop"
    r"|safe to (send|execute|move)|guarantee\w* (safe|that the motion)|ISO ?(10218|13849)|IEC ?61508|fail-?safe",
    re.IGNORECASE,
)
DENIED = re.compile(r"\b(not|no|never|neither|nor)\b|false|Keep the robot's own limits|^\s*\"certified\"(: {)?,?$", re.IGNORECASE)


def shown_files() -> list[Path]:
    roots = [ROOT / name for name in SHOWN]
    found = [path for root in roots for path in ([root] if root.is_file() else root.rglob("*"))]
    return [path for path in [*found, ROOT / "tests/golden/openapi.json"] if path.suffix in KINDS and path.is_file()]


def test_nowhere_is_it_called_what_it_is_not() -> None:
    files = shown_files()
    assert len(files) > 300
    claims = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:200]}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if CLAIMS.search(line) and not DENIED.search(line)
    ]
    assert claims == []


@pytest.mark.parametrize(
    ("line", "is_claim"),
    [
        ("The guard is a certified safety function.", True),
        ("It is not a safety function and has no SIL or PL.", False),
        ("SIL 2 capable", True),
        ("PL d, category 3", True),
        ("every motion is safe to send", True),
        ('"certified": false', False),
    ],
)
def test_a_claim_is_told_from_its_denial(line: str, *, is_claim: bool) -> None:
    assert bool(CLAIMS.search(line) and not DENIED.search(line)) == is_claim
