"""Profiles are complete, sourced and contradiction-free, or they do not load."""

import hashlib
import math
import re
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path

import pytest

from safety.profile import (
    Number,
    Numbers,
    Preset,
    ProfileError,
    RobotProfile,
    UnknownRobotError,
    known_robots,
    limits_for,
    load_profile,
    load_profiles,
    parse_profile,
)

# Changing a profile changes what robots may do: raise its `version` and write the new hash here.
PINNED = {
    "aloha": (1, "f9be744acce3b10e5daffa0dacb31367cc674c0609efb564ee580d82e20020ed"),
    "franka_fr3": (1, "c02d2782a8fb84733e4006a05b2ca79c80b67cbd73bceba713f23d295d0768c4"),
    "franka_panda": (2, "7cb94fda8b97393b1e695b7e3797606bcad87d0a8bba4dc7225d403b688b5878"),
    "so101": (1, "f8a830065c423f3f38565626aec0095d773742c8caa18a247b306403a58f826a"),
    "ur5e": (1, "b9edd8cdb340ba7df57fbebff4a9e529dc93e99cbd2964ab290d8c05aabfb951"),
    "viperx_300s": (1, "b175cf5fabcd3a17d8c2963d45ce42dad943606efe4b0aabb906ff5a0533940d"),
    "widowx_250s": (1, "78cef35fc4e7a43db1f4cac3f97c7d27f7da5d9b551acaf913b5840de1ea1f86"),
    "xarm7": (1, "2c39da828d25f998ffde7d80a05d2c5806ea82730b4eb2dbef489e1b0f8cc362"),
}


def panda_text() -> str:
    return resources.files("safety").joinpath("robots", "franka_panda.toml").read_text(encoding="utf-8")


def numbers_of(profile: RobotProfile) -> list[Number | Numbers]:
    sections = (profile.cartesian, profile.joints, profile.gripper, profile.reduced, profile.manufacturer)
    found = [getattr(section, entry.name) for section in sections for entry in fields(section)]
    return [number for number in found if number is not None]


@pytest.mark.parametrize("robot_type", known_robots())
def test_every_profile_loads_under_its_own_name(robot_type: str) -> None:
    assert load_profile(robot_type).robot_type == robot_type


@pytest.mark.parametrize("robot_type", known_robots())
def test_every_number_of_every_profile_has_a_source(robot_type: str) -> None:
    assert all(number.source.strip() for number in numbers_of(load_profile(robot_type)))


@pytest.mark.parametrize("robot_type", known_robots())
def test_a_profile_is_changed_only_together_with_its_version(robot_type: str) -> None:
    profile = load_profile(robot_type)
    assert (profile.version, profile.content_hash) == PINNED[robot_type]


def test_the_panda_has_the_published_limits() -> None:
    profile = load_profile("franka_panda")
    assert profile.joints.position_min_rad.values == (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
    assert profile.joints.position_max_rad.values == (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
    assert profile.joints.speed_rad_per_s.values == (2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61)
    assert profile.gripper.step_max is None


@pytest.mark.parametrize(
    "name", ["", "franka", "panda", "custom", "FRANKA_PANDA", "../robots/franka_panda", "franka_panda.toml", "."]
)
def test_an_unknown_robot_has_no_profile_and_gets_no_generic_one(name: str) -> None:
    with pytest.raises(UnknownRobotError) as caught:
        load_profile(name)
    assert caught.value.robot_type == name


def test_the_reduced_preset_is_slow_and_the_manufacturer_preset_is_the_robots_own() -> None:
    profile = load_profile("franka_panda")
    reduced, manufacturer = limits_for(profile, Preset.REDUCED), limits_for(profile, Preset.MANUFACTURER)
    assert (reduced.linear_speed_m_per_s, reduced.angular_speed_rad_per_s) == (0.25, 1.25)
    assert (manufacturer.linear_speed_m_per_s, manufacturer.angular_speed_rad_per_s) == (1.7, 2.5)
    assert reduced.joint_speed_rad_per_s == (1.0875, 1.0875, 1.0875, 1.0875, 1.305, 1.305, 1.305)
    assert manufacturer.joint_speed_rad_per_s == profile.joints.speed_rad_per_s.values
    assert reduced.gripper_range == manufacturer.gripper_range == (0.0, 1.0)


@pytest.mark.parametrize("preset", list(Preset))
def test_a_preset_never_exceeds_the_manufacturer(preset: Preset) -> None:
    profile = load_profile("franka_panda")
    greedy = Number(value=100.0, source="this test")
    wanted = replace(profile.reduced, linear_speed_m_per_s=greedy, angular_speed_rad_per_s=greedy)
    limits = limits_for(replace(profile, reduced=wanted, manufacturer=wanted), preset)
    assert (limits.linear_speed_m_per_s, limits.angular_speed_rad_per_s) == (1.7, 2.5)


def test_an_unpublished_limit_stays_unknown_under_the_manufacturer_preset() -> None:
    text = "\n".join(line for line in panda_text().splitlines() if not line.startswith("linear_speed_m_per_s = { value = 1.7"))
    profile = parse_profile(text)
    assert limits_for(profile, Preset.MANUFACTURER).linear_speed_m_per_s is None
    assert limits_for(profile, Preset.REDUCED).linear_speed_m_per_s == 0.25


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("value = 1.7,", "value = -1.7,", "cartesian.linear_speed_m_per_s: -1.7 is not positive"),
        ("value = 1.7,", "value = 0,", "cartesian.linear_speed_m_per_s: 0 is not positive"),
        ("value = 1.7,", "value = nan,", "cartesian.linear_speed_m_per_s: nan is not a finite number"),
        ("value = 1.7,", "value = inf,", "cartesian.linear_speed_m_per_s: inf is not a finite number"),
        ("value = 1.7,", "value = true,", "cartesian.linear_speed_m_per_s: True is not a finite number"),
        ("value = 1.7,", 'value = "1.7",', "cartesian.linear_speed_m_per_s: '1.7' is not a finite number"),
        (
            'value = 0.5, source = "engineering judgement"',
            'value = 0.5, source = " "',
            "joint_speed_factor: the number has no source",
        ),
        ('value = 0.5, source = "engineering judgement"', "value = 0.5", "joint_speed_factor: exactly value and source"),
        ('{ value = 0.5, source = "engineering judgement" }', "0.5", "joint_speed_factor: exactly value and source"),
        ("{ value = 0.5,", "{ value = 1.5,", "presets.reduced.joint_speed_factor: above 1"),
        ("-1.7628, -2.8973, -3.0718", "1.7628, -2.8973, -3.0718", "not below position_max_rad at joint 2"),
        ("[15.0, 7.5, ", "[7.5, ", "joints.acceleration_rad_per_s2: 6 numbers for 7 joints"),
        ("values = [0.0, 1.0]", "values = [1.0, 1.0]", "gripper.range: a lower and a higher end"),
        ("values = [0.0, 1.0]", "values = [1.0]", "gripper.range: a lower and a higher end"),
        ("values = [0.0, 1.0]", "values = 1.0", "gripper.range: exactly values (a list)"),
        ("[gripper]", '[gripper]\nstep_max = { value = 1e-5, source = "x" }', "gripper.step_max: smaller"),
        ("speed_rad_per_s = { values", "sped_rad_per_s = { values", "joints.sped_rad_per_s: unknown"),
        ("speed_rad_per_s = { values", "sped_rad_per_s = { values", "joints.speed_rad_per_s: missing"),
        ("[cartesian]", "[cartesan]", "cartesan: unknown"),
        ("[cartesian]", "[cartesan]", "cartesian: missing"),
        ("[presets.manufacturer]", "[presets.fast]", "presets: exactly reduced and manufacturer"),
        ("version = 2", "version = 0", "version: a whole number"),
        ("version = 2", "version = true", "version: a whole number"),
        ('robot_type = "franka_panda"', "", "robot_type: a non-empty text"),
        ('robot_type = "franka_panda"', "robot_type = ", "not TOML"),
    ],
)
def test_a_wrong_profile_does_not_load_and_names_the_fault(before: str, after: str, fault: str) -> None:
    text = panda_text()
    assert before in text
    with pytest.raises(ProfileError) as caught:
        parse_profile(text.replace(before, after, 1))
    assert any(fault in line for line in caught.value.faults), caught.value.faults


def test_all_faults_are_named_at_once() -> None:
    text = panda_text().replace("value = 1.7,", "value = nan,").replace("version = 2", "version = 0")
    with pytest.raises(ProfileError) as caught:
        parse_profile(text)
    assert len(caught.value.faults) == 2


def test_the_hash_follows_values_and_sources_but_not_comments() -> None:
    text = panda_text()
    original = parse_profile(text).content_hash
    assert parse_profile(f"# a comment\n{text}").content_hash == original
    assert parse_profile(text.replace("value = 1.7,", "value = 1.6,")).content_hash != original
    assert parse_profile(text.replace("UR recovery mode", "UR reduced mode")).content_hash != original
    assert len(original) == len(hashlib.sha256().hexdigest())


def test_every_number_is_finite_and_a_float() -> None:
    for number in numbers_of(load_profile("franka_panda")):
        values = (number.value,) if isinstance(number, Number) else number.values
        assert all(type(value) is float and math.isfinite(value) for value in values)


def test_a_folder_of_ones_own_adds_robots_to_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "our_arm.toml").write_text(panda_text().replace('robot_type = "franka_panda"', 'robot_type = "our_arm"'))
    (tmp_path / "notes.txt").write_text("not a robot")
    found = load_profiles(tmp_path)
    assert set(found) == {*known_robots(), "our_arm"}
    assert set(load_profiles()) == set(known_robots())


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("franka_panda.toml", "", r"^franka_panda\.toml: this robot is shipped; give yours another robot_type$"),
        ("our_arm.toml", "#" * 2_000_000, r"^our_arm\.toml: longer than \d+ bytes$"),
        ("our_arm.toml", panda_text(), r"^our_arm\.toml: robot_type: the file is named 'our_arm' and says 'franka_panda'$"),
    ],
)
def test_a_file_that_cannot_be_added_is_named(tmp_path: Path, file: str, text: str, fault: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(ProfileError, match=fault):
        load_profiles(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="the folder cannot be read: No such file or directory"):
        load_profiles(tmp_path / "nowhere")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "our_arm.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ProfileError, match=r"^our_arm\.toml: cannot be read: "):
        load_profiles(tmp_path)


def test_a_robot_is_named_in_small_letters() -> None:
    with pytest.raises(ProfileError, match="robot_type: small letters, digits and _ are needed"):
        parse_profile(panda_text().replace('robot_type = "franka_panda"', 'robot_type = "Our Arm"'))


def without_arm() -> str:
    """The Panda's limits without its kinematics and capsules."""
    return panda_text().partition("[kinematics]")[0]


def test_there_are_joints_but_not_without_end() -> None:
    many = ", ".join(["1.0"] * 65)
    text, count = re.subn(r"(?m)^(speed_rad_per_s = \{ values? = \[)[^\]]*\]", rf"\g<1>{many}]", without_arm(), count=1)
    assert count == 1
    with pytest.raises(ProfileError, match=r"joints\.speed_rad_per_s: one number per joint is needed, for 1 to \d+ joints"):
        parse_profile(text)
