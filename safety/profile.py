"""What a robot can and may do, as numbers with their sources: `load_profile("franka_panda")`, then `limits_for(profile, preset)`.

Read from `robots/<robot_type>.toml`, checked completely, hashed. A number nobody published is None, never guessed. It knows no
policy and no request; the control plane loads profiles when it loads policies, and `Guard` reads the limits.
"""

import hashlib
import json
import math
import tomllib
from dataclasses import MISSING, Field, dataclass, fields
from enum import StrEnum
from importlib import resources
from typing import Any, TypeVar, get_args

from safety.workspace import NO_WORKSPACE, Workspace

SUFFIX = ".toml"
STEP_MIN_SHARE = 1e-3
JOINT_MARGIN_RAD = 0.1


class UnknownRobotError(Exception):
    """There is no profile of this name; there is no generic one either."""

    def __init__(self, robot_type: str) -> None:
        self.robot_type = robot_type
        super().__init__(f"no safety profile for robot {robot_type!r}")


class ProfileError(Exception):
    """A profile that cannot be trusted; `faults` names each."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        self.faults = faults
        super().__init__("; ".join(faults))


class Preset(StrEnum):
    """How fast a robot may be asked to move."""

    REDUCED = "reduced"
    MANUFACTURER = "manufacturer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One number and where it comes from."""

    value: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """One number per joint (or per end of a range), and where they come from."""

    values: tuple[float, ...]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CartesianLimits:
    """The manufacturer's limits of the end effector and the elbow."""

    linear_speed_m_per_s: Number | None = None
    linear_acceleration_m_per_s2: Number | None = None
    linear_jerk_m_per_s3: Number | None = None
    angular_speed_rad_per_s: Number | None = None
    angular_acceleration_rad_per_s2: Number | None = None
    angular_jerk_rad_per_s3: Number | None = None
    elbow_speed_rad_per_s: Number | None = None
    elbow_acceleration_rad_per_s2: Number | None = None
    elbow_jerk_rad_per_s3: Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JointLimits:
    """The manufacturer's limits per joint, from the base outward."""

    position_min_rad: Numbers
    position_max_rad: Numbers
    speed_rad_per_s: Numbers
    acceleration_rad_per_s2: Numbers | None = None
    jerk_rad_per_s3: Numbers | None = None
    torque_nm: Numbers | None = None
    torque_rate_nm_per_s: Numbers | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GripperLimits:
    """The gripper command: its two ends, and the largest change between two steps where that is configured."""

    range: Numbers
    step_max: Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetLimits:
    """What a preset asks for. None leaves the manufacturer's limit."""

    joint_speed_factor: Number
    linear_speed_m_per_s: Number | None = None
    angular_speed_rad_per_s: Number | None = None


Section = TypeVar("Section", CartesianLimits, JointLimits, GripperLimits, PresetLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotProfile:
    """Everything known about one robot type. `content_hash` is the SHA-256 of its values and sources in canonical JSON."""

    robot_type: str
    name: str
    version: int
    content_hash: str
    cartesian: CartesianLimits
    joints: JointLimits
    gripper: GripperLimits
    reduced: PresetLimits
    manufacturer: PresetLimits
    workspace: Workspace = NO_WORKSPACE


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one robot may do under one preset. None: no limit is known, and the rule that needs it says so."""

    linear_speed_m_per_s: float | None
    angular_speed_rad_per_s: float | None
    joint_speed_rad_per_s: tuple[float, ...]
    gripper_range: tuple[float, float]
    gripper_step_max: float | None
    joint_min_rad: tuple[float, ...] = ()
    joint_max_rad: tuple[float, ...] = ()


def known_robots() -> tuple[str, ...]:
    """Every robot type that has a profile, sorted."""
    names = (entry.name for entry in resources.files("safety").joinpath("robots").iterdir())
    return tuple(sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)))


def load_profile(robot_type: str) -> RobotProfile:
    """The profile of exactly this name. Raises UnknownRobotError, or ProfileError if the file cannot be trusted."""
    if robot_type not in known_robots():
        raise UnknownRobotError(robot_type)
    profile = parse_profile(resources.files("safety").joinpath("robots", f"{robot_type}{SUFFIX}").read_text(encoding="utf-8"))
    if profile.robot_type != robot_type:
        raise ProfileError((f"robot_type: the file is named {robot_type!r} and says {profile.robot_type!r}",))
    return profile


def limits_for(profile: RobotProfile, preset: Preset) -> Limits:
    """The smaller of the robot's own limit and the preset's, for each quantity."""
    wanted = profile.reduced if preset is Preset.REDUCED else profile.manufacturer
    low, high = profile.gripper.range.values
    return Limits(
        linear_speed_m_per_s=_smaller(profile.cartesian.linear_speed_m_per_s, wanted.linear_speed_m_per_s),
        angular_speed_rad_per_s=_smaller(profile.cartesian.angular_speed_rad_per_s, wanted.angular_speed_rad_per_s),
        joint_speed_rad_per_s=tuple(wanted.joint_speed_factor.value * speed for speed in profile.joints.speed_rad_per_s.values),
        gripper_range=(low, high),
        gripper_step_max=None if profile.gripper.step_max is None else profile.gripper.step_max.value,
        joint_min_rad=tuple(end + JOINT_MARGIN_RAD for end in profile.joints.position_min_rad.values),
        joint_max_rad=tuple(end - JOINT_MARGIN_RAD for end in profile.joints.position_max_rad.values),
    )


def _smaller(*numbers: Number | None) -> float | None:
    return min((number.value for number in numbers if number is not None), default=None)


def parse_profile(text: str) -> RobotProfile:
    """A checked profile from TOML. Raises ProfileError naming every fault at once."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError((f"not TOML: {error}",)) from None
    faults: list[str] = []
    profile = _read(table, faults)
    if profile is not None:
        faults += _contradictions(profile)
    if profile is None or faults:
        raise ProfileError(tuple(faults))
    return profile


def _read(table: dict[str, Any], faults: list[str]) -> RobotProfile | None:
    known = {"robot_type", "name", "version", "cartesian", "joints", "gripper", "presets"}
    faults += [f"{name}: unknown" for name in sorted(table.keys() - known)]
    faults += [f"{name}: a non-empty text is needed" for name in ("robot_type", "name") if not _is_text(table.get(name))]
    version = table.get("version")
    if type(version) is not int or version < 1:
        faults.append("version: a whole number from 1 is needed")
    presets = table.get("presets")
    presets = presets if isinstance(presets, dict) else {}
    if presets.keys() != {preset.value for preset in Preset}:
        faults.append("presets: exactly reduced and manufacturer are needed")
    cartesian = _section(CartesianLimits, table.get("cartesian"), "cartesian", faults)
    joints = _section(JointLimits, table.get("joints"), "joints", faults)
    gripper = _section(GripperLimits, table.get("gripper"), "gripper", faults)
    reduced = _section(PresetLimits, presets.get("reduced"), "presets.reduced", faults)
    manufacturer = _section(PresetLimits, presets.get("manufacturer"), "presets.manufacturer", faults)
    if faults or cartesian is None or joints is None or gripper is None or reduced is None or manufacturer is None:
        return None
    canonical = json.dumps(table, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return RobotProfile(
        robot_type=table["robot_type"],
        name=table["name"],
        version=table["version"],
        content_hash=hashlib.sha256(canonical.encode()).hexdigest(),
        cartesian=cartesian,
        joints=joints,
        gripper=gripper,
        reduced=reduced,
        manufacturer=manufacturer,
    )


def _section(kind: type[Section], table: object, path: str, faults: list[str]) -> Section | None:
    if not isinstance(table, dict):
        faults.append(f"{path}: missing")
        return None
    own: list[str] = []
    values = _values(fields(kind), table, path, own)
    faults += own
    return None if own else kind(**values)


def _values(entries: tuple[Field[Any], ...], table: dict[str, object], path: str, faults: list[str]) -> dict[str, Any]:
    known = {entry.name for entry in entries}
    faults += [f"{path}.{name}: unknown" for name in sorted(table.keys() - known)]
    values: dict[str, Any] = {}
    for entry in entries:
        if entry.name in table:
            read = _numbers if Numbers in (entry.type, *get_args(entry.type)) else _number
            values[entry.name] = read(table[entry.name], f"{path}.{entry.name}", faults)
        elif entry.default is MISSING:
            faults.append(f"{path}.{entry.name}: missing")
    return values


def _number(leaf: object, path: str, faults: list[str]) -> Number | None:
    if not isinstance(leaf, dict) or leaf.keys() != {"value", "source"}:
        faults.append(f"{path}: exactly value and source are needed")
        return None
    own = _faults_of([leaf["value"]], leaf["source"], path)
    faults += own
    return None if own else Number(value=float(leaf["value"]), source=leaf["source"])


def _numbers(leaf: object, path: str, faults: list[str]) -> Numbers | None:
    if not isinstance(leaf, dict) or leaf.keys() != {"values", "source"} or not isinstance(leaf["values"], list):
        faults.append(f"{path}: exactly values (a list) and source are needed")
        return None
    own = _faults_of(leaf["values"], leaf["source"], path)
    faults += own
    return None if own else Numbers(values=tuple(float(number) for number in leaf["values"]), source=leaf["source"])


def _faults_of(numbers: list[object], source: object, path: str) -> list[str]:
    faults = [] if _is_text(source) else [f"{path}: the number has no source"]
    may_be_negative = path.startswith("joints.position_") or path == "gripper.range"
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            faults.append(f"{path}: {number!r} is not a finite number")
        elif not may_be_negative and number <= 0:
            faults.append(f"{path}: {number!r} is not positive")
    return faults


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _contradictions(profile: RobotProfile) -> list[str]:
    """What is wrong between numbers that are each fine alone."""
    faults = []
    joints = profile.joints
    count = len(joints.speed_rad_per_s.values)
    for field in fields(joints):
        numbers: Numbers | None = getattr(joints, field.name)
        if numbers is not None and len(numbers.values) != count:
            faults.append(f"joints.{field.name}: {len(numbers.values)} numbers for {count} joints")
    pairs = zip(joints.position_min_rad.values, joints.position_max_rad.values, strict=False)
    faults += [
        f"joints: position_min_rad is not below position_max_rad at joint {i + 1}" for i, (a, b) in enumerate(pairs) if a >= b
    ]
    ends = profile.gripper.range.values
    if len(ends) != 2 or ends[0] >= ends[1]:
        faults.append("gripper.range: a lower and a higher end are needed")
    elif profile.gripper.step_max is not None and profile.gripper.step_max.value < STEP_MIN_SHARE * (ends[1] - ends[0]):
        faults.append("gripper.step_max: smaller than a thousandth of the range, so float32 could not hold it")
    for preset, limits in ((Preset.REDUCED, profile.reduced), (Preset.MANUFACTURER, profile.manufacturer)):
        if limits.joint_speed_factor.value > 1:
            faults.append(f"presets.{preset}.joint_speed_factor: above 1 would exceed the manufacturer")
    return faults
