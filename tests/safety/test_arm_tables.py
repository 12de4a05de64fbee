"""Kinematics, geometry and the rest of a profile that is no plain number: complete and free of contradictions, or refused."""

from importlib import resources
from pathlib import Path

import pytest

from safety.profile import ProfileError, known_robots, load_profile, parse_profile
from safety.robot import Convention


def text_of(robot: str) -> str:
    return resources.files("safety").joinpath("robots", f"{robot}.toml").read_text(encoding="utf-8")


def faults_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ProfileError) as caught:
        parse_profile(text)
    return caught.value.faults


@pytest.mark.parametrize(
    ("robot", "before", "after", "fault"),
    [
        ("aloha", "arms = 2", "arms = 3", "arms: 1 to 2"),
        ("aloha", "arms = 2", "arms = true", "arms: 1 to 2"),
        ("ur5e", 'convention = "classic_dh"', 'convention = "dh"', "kinematics.convention: one of modified_dh"),
        ("ur5e", "[0.0, 1.5707963267948966, 0.1625, 0.0],", "", "kinematics.rows: 6 rows of 4"),
        ("ur5e", "0.1625, 0.0]", '0.1625, "0"]', "kinematics.rows: 6 rows of 4"),
        ("ur5e", "0.1625, 0.0]", "0.1625, true]", "kinematics.rows: 6 rows of 4"),
        ("ur5e", "0.1625, 0.0]", "0.1625]", "kinematics.rows: 6 rows of 4"),
        ("ur5e", "[kinematics]", "[kinematics]\nextra = 1", "kinematics: convention, rows, tool and source"),
        ("ur5e", 'source = "Universal Robots, DH', 'tool = [1.0]\nsource = "Universal Robots, DH', "kinematics.tool: 0 numbers"),
        ("widowx_250s", "[0.0, 0.0, 1.0, 0.0, 0.0, 0.0]", "[0.0, 0.0, 2.0, 0.0, 0.0, 0.0]", "unit ω"),
        ("franka_panda", 'name = "link0", link = 0', 'name = "link0", link = 9', "geometry.capsules"),
        ("franka_panda", 'name = "link0", link = 0', 'name = "link0", link = true', "geometry.capsules"),
        ("franka_panda", 'name = "link0", link = 0', 'name = " ", link = 0', "geometry.capsules"),
        ("franka_panda", 'name = "link0", link = 0', 'name = "link1", link = 0', "geometry.capsules"),
        ("franka_panda", "radius_m = 0.09 }", "radius_m = -0.09 }", "geometry.capsules"),
        ("franka_panda", "radius_m = 0.09 }", "radius = 0.09 }", "geometry.capsules"),
        ("franka_panda", '["link0", "link5"]', '["link0", "link9"]', "geometry.pairs"),
        ("franka_panda", '["link0", "link5"]', '["link0", "link0"]', "geometry.pairs"),
        ("franka_panda", '["link0", "link5"]', '["link0"]', "geometry.pairs"),
        ("franka_panda", "pairs = [", "pears = [", "geometry: exactly capsules, pairs and source"),
        ("franka_panda", "capsules = [", "capsules = 3\nx = [", "geometry: exactly"),
        ("franka_panda", 'convention = "modified_dh"', 'convention = "?"', "geometry: of no use without kinematics"),
        (
            "franka_fr3",
            '{ unpublished = "the same" }',
            '{ unpublished = "" }',
            "workspace.box_high_m: unpublished needs a reason",
        ),
        ("xarm7", "[0.7, 0.7, 0.9515]", "[-0.7, 0.7, 0.9515]", "workspace: three lower and three higher"),
        ("xarm7", "[0.7, 0.7, 0.9515]", "[0.7, 0.7]", "workspace: three lower and three higher"),
        (
            "so101",
            "position_margin_rad = { value = 0.1",
            "position_margin_rad = { value = 1.7",
            "leaves nothing of a joint's range",
        ),
    ],
)
def test_a_wrong_table_is_refused_and_named(robot: str, before: str, after: str, fault: str) -> None:
    text = text_of(robot)
    assert before in text
    found = faults_of(text.replace(before, after, 1))
    assert any(fault in line for line in found), found


def test_braking_needs_both_of_its_numbers() -> None:
    lines = [line for line in text_of("franka_fr3").splitlines() if not line.startswith("braking_offset")]
    assert faults_of("\n".join(lines)) == ("joints.braking_rad_per_s2: needed with braking_offset_rad_per_s, and only then",)


def test_a_box_needs_both_of_its_ends() -> None:
    lines = [line for line in text_of("xarm7").splitlines() if not line.startswith("box_high_m")]
    assert faults_of("\n".join(lines)) == ("workspace: both ends of the box are needed, or none",)


def test_geometry_that_is_no_table_is_refused() -> None:
    text = text_of("ur5e")
    without = text[: text.index("[geometry]")]
    assert any("geometry: exactly" in fault for fault in faults_of(f"geometry = 3\n{without}"))


def test_the_template_is_refused_until_it_is_filled_in() -> None:
    template = resources.files("safety").joinpath("robots", "custom.toml.template").read_text(encoding="utf-8")
    assert "custom" not in known_robots()
    assert any("source" in fault for fault in faults_of(template))
    filled = template.replace('values = [], source = ""', 'values = [-1.0, -1.0], source = "mine"', 1)
    filled = filled.replace('values = [], source = ""', 'values = [1.0, 1.0], source = "mine"')
    profile = parse_profile(filled)
    assert (profile.robot_type, profile.joints_per_arm, profile.kinematics, profile.geometry) == ("custom", 2, None, None)
    assert ("joints.acceleration_rad_per_s2", "fill in, or say who does not publish it") in profile.unpublished


@pytest.mark.parametrize("robot", known_robots())
def test_every_missing_number_says_why(robot: str) -> None:
    profile = load_profile(robot)
    named = {path for path, _ in profile.unpublished}
    for section, names in (("joints", ("acceleration_rad_per_s2", "jerk_rad_per_s3")), ("workspace", ("box_low_m", "reach_m"))):
        for name in names:
            assert (getattr(getattr(profile, section), name) is None) == (f"{section}.{name}" in named)
    assert (profile.geometry is None) == ("geometry" in named)


def test_every_convention_is_used_by_some_robot() -> None:
    tables = [load_profile(robot).kinematics for robot in known_robots()]
    assert {table.convention for table in tables if table is not None} == set(Convention)


def test_a_customers_own_folder_of_robots_is_read_alike(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text_of("ur5e").replace('robot_type = "ur5e"', 'robot_type = "mine"'), encoding="utf-8")
    assert known_robots(tmp_path) == ("mine",)
    assert load_profile("mine", tmp_path).joints_per_arm == 6
    (tmp_path / "other.toml").write_text(text_of("ur5e"), encoding="utf-8")
    with pytest.raises(ProfileError, match="the file is named 'other' and says 'ur5e'"):
        load_profile("other", tmp_path)
