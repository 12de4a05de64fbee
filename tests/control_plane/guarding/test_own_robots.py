"""Robots of a deployment's own: a folder of profiles, read at start-up, that can add robots and never replace one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from control_plane.guarding.deployment import load_robots
from control_plane.settings import SettingsError
from safety.profile import known_robots, load_profile
from tests.control_plane.fakes import ROOT

TEMPLATE = (ROOT / "safety/robots/custom.toml.template").read_text(encoding="utf-8")
UR5E = (ROOT / "safety/robots/ur5e.toml").read_text(encoding="utf-8")


def own(name: str = "cell_arm") -> str:
    """A UR5e under another name."""
    return UR5E.replace('robot_type = "ur5e"', f'robot_type = "{name}"')


def filled_in() -> str:
    """The template as its comments ask for it: what is not known stays unpublished."""
    text = TEMPLATE.replace('robot_type = "custom"', 'robot_type = "cell_arm"')
    ends = {"position_min_rad": [-6.28, -6.28, -3.14], "position_max_rad": [6.28, 6.28, 3.14]}
    for name, values in (ends | {"speed_rad_per_s": [3.1, 3.1, 3.1]}).items():
        empty, full = (
            f'\n{name} = {{ values = {numbers}, source = "{source}" }}' for numbers, source in (([], ""), (values, "ours"))
        )
        text = text.replace(empty, full)
    return text


def test_without_a_folder_there_are_the_shipped_robots() -> None:
    assert set(load_robots(None)) == set(known_robots())


@pytest.mark.parametrize("text", [own(), filled_in()])
def test_a_filled_in_file_adds_a_robot(tmp_path: Path, text: str) -> None:
    (tmp_path / "cell_arm.toml").write_text(text)
    (tmp_path / "notes.txt").write_text("not a robot")
    found = load_robots(tmp_path)
    assert set(found) == {*known_robots(), "cell_arm"}
    assert found["cell_arm"].robot_type == "cell_arm"
    assert found["ur5e"] == load_profile("ur5e")


def test_the_template_as_it_stands_names_everything_to_fill_in(tmp_path: Path) -> None:
    (tmp_path / "custom.toml").write_text(TEMPLATE)
    with pytest.raises(SettingsError) as caught:
        load_robots(tmp_path)
    told = str(caught.value)
    for field in ("position_min_rad", "position_max_rad", "speed_rad_per_s"):
        assert f"VLA_ROBOTS_DIR: {tmp_path}: custom.toml: joints.{field}: the number has no source" in told


def _symlink_cycle(file: Path) -> None:
    file.symlink_to(file.with_suffix(".other"))
    file.with_suffix(".other").symlink_to(file)


def _written(text: str) -> Callable[[Path], object]:
    return lambda file: file.write_text(text)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (Path.mkdir, "cannot be read"),
        (_symlink_cycle, "cannot be read"),
        (lambda file: file.symlink_to("/nowhere"), "cannot be read"),
        (lambda file: file.write_bytes(b"\xff\xfe\x00"), "cannot be read"),
        (lambda file: file.write_bytes(b"#" * 1_000_001), "longer than 1000000 bytes"),
        (_written("a = " + "[" * 100_000), "not TOML"),
        (_written("[joints"), "not TOML"),
        (_written(own("another_arm")), "the file is named 'cell_arm' and says 'another_arm'"),
        (_written(own("../arm")), "robot_type: small letters, digits and _"),
        (_written(own().replace("version = 1", "version = " + "9" * 5000)), "not TOML"),
        (_written(own().replace("value = 0.5,", "value = nan,")), "is not a finite number"),
        (_written(own().replace("value = 0.5,", "value = 1" + "0" * 400 + ",")), "a whole number of more than 30 digits"),
        (_written(own().replace("value = 0.5,", "value = 1e308,")), "is not a finite number, or above 1e+06"),
        (_written(own().replace("value = 0.5,", "value = 5e-324,")), "is not positive, or below 1e-06"),
    ],
)
def test_a_file_that_cannot_be_trusted_stops_the_start_by_name(
    tmp_path: Path, make: Callable[[Path], object], fault: str
) -> None:
    make(tmp_path / "cell_arm.toml")
    with pytest.raises(SettingsError) as caught:
        load_robots(tmp_path)
    assert fault in str(caught.value)
    assert "cell_arm.toml" in str(caught.value)


def test_kinematics_that_would_overflow_are_refused(tmp_path: Path) -> None:
    """No number compares as inside every workspace."""
    (tmp_path / "cell_arm.toml").write_text(own().replace("0.1625", "1e308"))
    with pytest.raises(SettingsError, match=r"kinematics\.rows"):
        load_robots(tmp_path)


def test_a_robot_without_joints_is_none(tmp_path: Path) -> None:
    text = filled_in().replace("[-6.28, -6.28, -3.14]", "[]").replace("[6.28, 6.28, 3.14]", "[]").replace("[3.1, 3.1, 3.1]", "[]")
    (tmp_path / "cell_arm.toml").write_text(text)
    with pytest.raises(SettingsError, match="one number per joint is needed"):
        load_robots(tmp_path)


def test_a_shipped_robot_cannot_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "ur5e.toml").write_text(UR5E)
    with pytest.raises(SettingsError, match=r"ur5e\.toml: this robot is shipped"):
        load_robots(tmp_path)


def test_a_folder_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="the folder cannot be read"):
        load_robots(tmp_path / "none")
