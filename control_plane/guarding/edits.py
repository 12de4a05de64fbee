"""A change of settings as an operator's command line says it: some fields named, the others left as they are. Pure."""

import re
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from control_plane.errors import ApiError
from control_plane.guarding.fields import BoxFields, InstructionFields, LimitFields, OnReject, Settings
from control_plane.guarding.verbs import Content
from safety.profile import Preset

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsEdit:
    """None leaves what is there. `replacement` comes first, the single fields are put on top of it."""

    replacement: Settings | None = None
    robot: str | None = None  # whose limits; None: all robots'
    linear_speed_m_per_s: float | None = None
    angular_speed_rad_per_s: float | None = None
    workspace: tuple[float, ...] | None = None
    required_rules: list[str] | None = None
    disabled_rules: list[str] | None = None
    on_reject: OnReject | None = None
    instruction: InstructionFields | None = None
    preset: Preset | None = None
    calibrations: list[str] | None = None


def edited(old: Content, edit: SettingsEdit) -> Content:
    """The content after the edit; not checked yet. Raises ApiError when nothing is named."""
    settings = old.settings if edit.replacement is None else edit.replacement
    limits = _limits(edit)
    whole = {name: value for name in ("on_reject", "instruction", "calibrations") if (value := getattr(edit, name)) is not None}
    if not limits and not whole and edit.replacement is None and edit.preset is None:
        raise ApiError("missing_field", "say what to change: --file, --linear-speed, --workspace, …", param="settings")
    settings = replace(_with_limits(settings, edit.robot, limits), **whole)
    return Content(settings=settings, preset=edit.preset or old.preset)


def numbers_of(text: str, *, count: int, param: str) -> tuple[float, ...]:
    """`0.2,-0.3,0` as numbers. Raises ApiError naming the option."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != count or not all(map(_NUMBER.fullmatch, parts)):
        raise ApiError("invalid_field", f"{param} needs {count} numbers separated by commas.", param=param)
    return tuple(map(float, parts))


def _limits(edit: SettingsEdit) -> dict[str, Any]:
    names = ("linear_speed_m_per_s", "angular_speed_rad_per_s", "required_rules", "disabled_rules")
    limits: dict[str, Any] = {name: value for name in names if (value := getattr(edit, name)) is not None}
    if edit.workspace is not None:
        x, y, z, *high = edit.workspace
        limits["workspace"] = BoxFields(low_m=(x, y, z), high_m=(high[0], high[1], high[2]))
    return limits


def _with_limits(settings: Settings, robot: str | None, limits: dict[str, Any]) -> Settings:
    if not limits:
        return settings
    if robot is None:
        return replace(settings, limits=replace(settings.limits or LimitFields(), **limits))
    robots = dict(settings.robots or {})
    return replace(settings, robots=robots | {robot: replace(robots.get(robot, LimitFields()), **limits)})
