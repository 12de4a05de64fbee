"""What a deployment brings to the action guard: its own layer of limits and its own robots, read once at start-up.

The layer is a TOML file in the shape of `fields.Settings`; the robots are a folder of profiles such as `custom.toml.template`.

Raises SettingsError, which stops the start: a limit that somebody wrote down and nobody applies is worse than no service.
"""

import tomllib
from pathlib import Path

import msgspec

from control_plane.guarding.fields import Settings
from control_plane.settings import SettingsError, variable
from safety.profile import ProfileError, RobotProfile, load_profiles

_NAME, _ROBOTS = variable("safety_limits_file"), variable("robots_dir")


def load_robots(folder: Path | None) -> dict[str, RobotProfile]:
    """Every shipped robot and those of the folder. A robot that cannot be trusted stops the start, and so does a taken name."""
    try:
        return load_profiles(folder)
    except ProfileError as error:
        raise SettingsError("\n".join(f"{_ROBOTS}: {folder}: {fault}" for fault in error.faults)) from None


def load_deployment(path: Path | None) -> Settings:
    """The layer, or an empty one without a file. Whether it fits the robots served here is seen when the guards are built."""
    if path is None:
        return Settings()
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Settings)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SettingsError(f"{_NAME}: {path}: {error}") from None
