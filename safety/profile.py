"""Robot profiles from TOML: `load_profile("franka_panda")`. Read from `robots/<robot_type>.toml`, checked completely, hashed.

It knows no policy and no request. The control plane loads profiles when it loads policies; a customer's own file goes through
`parse_profile`.
"""

import hashlib
import json
import re
import tomllib
from dataclasses import MISSING, Field, fields
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, TypeGuard, TypeVar, get_args

from safety.arm_tables import read_geometry, read_kinematics
from safety.robot import (
    STEP_MIN_SHARE,
    CartesianLimits,
    Geometry,
    GripperLimits,
    JointLimits,
    KinematicTable,
    Limits,
    Number,
    Numbers,
    Preset,
    PresetLimits,
    RobotProfile,
    WorkspaceLimits,
    limits_for,
    workspace_of,
)

__all__ = [
    "Limits",
    "Number",
    "Numbers",
    "Preset",
    "ProfileError",
    "RobotProfile",
    "UnknownRobotError",
    "known_robots",
    "limits_for",
    "load_profile",
    "parse_profile",
    "workspace_of",
]

SUFFIX = ".toml"
NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")  # stands in addresses, metrics and verdicts
BYTES_MAX = 1_000_000
NUMBER_MIN, NUMBER_MAX = 1e-6, 1e6  # no limit of an arm is near it, and no product of two such numbers overflows
JOINTS_MAX = 16
ARMS_MAX = 2


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


Section = TypeVar("Section", CartesianLimits, JointLimits, GripperLimits, PresetLimits, WorkspaceLimits)


def known_robots(folder: Traversable | None = None) -> tuple[str, ...]:
    """Every robot type that has a profile in `folder` (the shipped ones), sorted."""
    names = (entry.name for entry in (folder or _shipped()).iterdir())
    return tuple(sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)))


def _shipped() -> Traversable:
    return resources.files("safety").joinpath("robots")


def load_profile(robot_type: str, folder: Traversable | None = None) -> RobotProfile:
    """The profile of exactly this name. Raises UnknownRobotError, or ProfileError if the file cannot be trusted."""
    if robot_type not in known_robots(folder):
        raise UnknownRobotError(robot_type)
    profile = parse_profile(_text((folder or _shipped()).joinpath(f"{robot_type}{SUFFIX}")))
    if profile.robot_type != robot_type:
        raise ProfileError((f"robot_type: the file is named {robot_type!r} and says {profile.robot_type!r}",))
    return profile


def load_profiles(own: Traversable | None = None) -> dict[str, RobotProfile]:
    """Every shipped profile, and those of a folder of one's own. Raises ProfileError naming the file and each fault.

    A shipped name is taken: a file that would replace a robot's published limits is refused, not preferred.
    """
    found = {robot: load_profile(robot) for robot in known_robots()}
    if own is None:
        return found
    try:
        robots = known_robots(own)
    except OSError as error:
        raise ProfileError((f"the folder cannot be read: {error.strerror}",)) from None
    for robot in robots:
        if robot in found:
            raise ProfileError((f"{robot}{SUFFIX}: this robot is shipped; give yours another robot_type",))
        try:
            found[robot] = load_profile(robot, own)
        except ProfileError as error:
            raise ProfileError(tuple(f"{robot}{SUFFIX}: {fault}" for fault in error.faults)) from None
    return found


def _text(file: Traversable) -> str:
    try:
        with file.open("rb") as opened:
            data = opened.read(BYTES_MAX + 1)
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError((f"cannot be read: {error}",)) from None
    if len(data) > BYTES_MAX:
        raise ProfileError((f"longer than {BYTES_MAX} bytes",))
    return text


def parse_profile(text: str) -> RobotProfile:
    """A checked profile from TOML. Raises ProfileError naming every fault at once."""
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise ProfileError((f"not TOML: {error}",)) from None
    reader = _Reader(table)
    profile = reader.profile()
    if profile is None:
        raise ProfileError(tuple(reader.faults))
    if faults := _contradictions(profile):
        raise ProfileError(tuple(faults))
    return profile


class _Reader:
    """One file being read: collects every fault, and what the file says is not published."""

    def __init__(self, table: dict[str, Any]) -> None:
        self.table = table
        self.faults: list[str] = []
        self.unpublished: list[tuple[str, str]] = []

    def profile(self) -> RobotProfile | None:
        table, faults = self.table, self.faults
        self._check_head()
        presets = table.get("presets")
        presets = presets if isinstance(presets, dict) else {}
        if presets.keys() != {preset.value for preset in Preset}:
            faults.append("presets: exactly reduced and manufacturer are needed")
        cartesian = self._section(CartesianLimits, table.get("cartesian"), "cartesian")
        joints = self._section(JointLimits, table.get("joints"), "joints")
        gripper = self._section(GripperLimits, table.get("gripper"), "gripper")
        workspace = self._section(WorkspaceLimits, table.get("workspace", {}), "workspace")
        reduced = self._section(PresetLimits, presets.get("reduced"), "presets.reduced")
        manufacturer = self._section(PresetLimits, presets.get("manufacturer"), "presets.manufacturer")
        if cartesian is None or joints is None or gripper is None or workspace is None or reduced is None or manufacturer is None:
            return None
        kinematics, geometry = self._tables(len(joints.speed_rad_per_s.values))
        if faults:
            return None
        canonical = json.dumps(table, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return RobotProfile(
            robot_type=table["robot_type"],
            name=table["name"],
            version=table["version"],
            content_hash=hashlib.sha256(canonical.encode()).hexdigest(),
            arms=table.get("arms", 1),
            cartesian=cartesian,
            joints=joints,
            gripper=gripper,
            workspace=workspace,
            reduced=reduced,
            manufacturer=manufacturer,
            kinematics=kinematics,
            geometry=geometry,
            unpublished=tuple(self.unpublished),
        )

    def _check_head(self) -> None:
        table, faults = self.table, self.faults
        known = {"robot_type", "name", "version", "arms", "presets", "kinematics", "geometry"}
        known |= {"cartesian", "joints", "gripper", "workspace"}
        faults += [f"{name}: unknown" for name in sorted(table.keys() - known)]
        faults += [f"{name}: a non-empty text is needed" for name in ("robot_type", "name") if not _is_text(table.get(name))]
        robot_type, version, arms = table.get("robot_type"), table.get("version"), table.get("arms", 1)
        if _is_text(robot_type) and not NAME.fullmatch(robot_type):
            faults.append("robot_type: small letters, digits and _ are needed, at most 64")
        if type(version) is not int or version < 1:
            faults.append("version: a whole number from 1 is needed")
        if type(arms) is not int or not 1 <= arms <= ARMS_MAX:
            faults.append(f"arms: 1 to {ARMS_MAX} is needed")

    def _tables(self, joints: int) -> tuple[KinematicTable | None, Geometry | None]:
        kinematics, geometry = (self._published(self.table.get(name), name) for name in ("kinematics", "geometry"))
        chain = None if kinematics is None else read_kinematics(kinematics, joints, self.faults)
        body = None if geometry is None else read_geometry(geometry, joints, self.faults)
        if body is not None and chain is None:
            self.faults.append("geometry: of no use without kinematics")
        return chain, body

    def _published(self, leaf: object, path: str) -> object:
        """The leaf, or None where the file says why there is none."""
        if isinstance(leaf, dict) and leaf.keys() == {"unpublished"}:
            if _is_text(leaf["unpublished"]):
                self.unpublished.append((path, leaf["unpublished"]))
            else:
                self.faults.append(f"{path}: unpublished needs a reason")
            return None
        return leaf

    def _section(self, kind: type[Section], table: object, path: str) -> Section | None:
        if not isinstance(table, dict):
            self.faults.append(f"{path}: missing")
            return None
        before = len(self.faults)
        values = self._values(fields(kind), table, path)
        return None if len(self.faults) > before else kind(**values)

    def _values(self, entries: tuple[Field[Any], ...], table: dict[str, object], path: str) -> dict[str, Any]:
        known = {entry.name for entry in entries}
        self.faults += [f"{path}.{name}: unknown" for name in sorted(table.keys() - known)]
        values: dict[str, Any] = {}
        for entry in entries:
            leaf = self._published(table.get(entry.name), f"{path}.{entry.name}")
            if leaf is not None:
                read = _numbers if Numbers in (entry.type, *get_args(entry.type)) else _number
                values[entry.name] = read(leaf, f"{path}.{entry.name}", self.faults)
            elif entry.default is MISSING:
                self.faults.append(f"{path}.{entry.name}: missing")
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
    may_be_negative = path.startswith(("joints.position_min", "joints.position_max", "workspace.box_")) or path == "gripper.range"
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= NUMBER_MAX:
            faults.append(f"{path}: {_shown(number)} is not a finite number, or above {NUMBER_MAX:g}")
        elif not may_be_negative and number < NUMBER_MIN:
            faults.append(f"{path}: {number!r} is not positive, or below {NUMBER_MIN:g}")
    return faults


def _shown(value: object) -> str:
    return repr(value)[:40] if not isinstance(value, int) or abs(value) < 10**30 else "a whole number of more than 30 digits"


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.strip() != ""


def _contradictions(profile: RobotProfile) -> list[str]:
    """What is wrong between numbers that are each fine alone."""
    faults = []
    joints = profile.joints
    count = len(joints.speed_rad_per_s.values)
    if not 1 <= count <= JOINTS_MAX:
        faults.append(f"joints.speed_rad_per_s: one number per joint is needed, for 1 to {JOINTS_MAX} joints")
    for field in fields(joints):
        numbers: Numbers | Number | None = getattr(joints, field.name)
        if isinstance(numbers, Numbers) and len(numbers.values) != count:
            faults.append(f"joints.{field.name}: {len(numbers.values)} numbers for {count} joints")
    pairs = zip(joints.position_min_rad.values, joints.position_max_rad.values, strict=False)
    faults += [
        f"joints: position_min_rad is not below position_max_rad at joint {i + 1}" for i, (a, b) in enumerate(pairs) if a >= b
    ]
    faults += _geometric_contradictions(profile)
    ends = profile.gripper.range.values
    if len(ends) != 2 or ends[0] >= ends[1]:
        faults.append("gripper.range: a lower and a higher end are needed")
    elif profile.gripper.step_max is not None and profile.gripper.step_max.value < STEP_MIN_SHARE * (ends[1] - ends[0]):
        faults.append("gripper.step_max: smaller than a thousandth of the range, so float32 could not hold it")
    for preset, limits in ((Preset.REDUCED, profile.reduced), (Preset.MANUFACTURER, profile.manufacturer)):
        if limits.joint_speed_factor.value > 1:
            faults.append(f"presets.{preset}.joint_speed_factor: above 1 would exceed the manufacturer")
    return faults


def _geometric_contradictions(profile: RobotProfile) -> list[str]:
    faults = []
    joints, workspace = profile.joints, profile.workspace
    margin = joints.position_margin_rad.value
    ends = zip(joints.position_min_rad.values, joints.position_max_rad.values, strict=False)
    if any(low < high <= low + 2 * margin for low, high in ends):
        faults.append("joints.position_margin_rad: leaves nothing of a joint's range")
    if (joints.braking_rad_per_s2 is None) != (joints.braking_offset_rad_per_s is None):
        faults.append("joints.braking_rad_per_s2: needed with braking_offset_rad_per_s, and only then")
    lows, highs = workspace.box_low_m, workspace.box_high_m
    if (lows is None) != (highs is None):
        faults.append("workspace: both ends of the box are needed, or none")
    elif lows is not None and highs is not None:
        sizes = {len(lows.values), len(highs.values)}
        if sizes != {3} or any(low >= high for low, high in zip(lows.values, highs.values, strict=False)):
            faults.append("workspace: three lower and three higher ends are needed")
    return faults
