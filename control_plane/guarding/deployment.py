"""The deployment's own layer of the action guard: a TOML file in the shape of `fields.Settings`, read once at start-up.

Raises SettingsError, which stops the start: a limit that somebody wrote down and nobody applies is worse than no service.
"""

import tomllib
from pathlib import Path

import msgspec

from control_plane.guarding.fields import Settings
from control_plane.settings import SettingsError, variable

_NAME = variable("safety_limits_file")


def load_deployment(path: Path | None) -> Settings:
    """The layer, or an empty one without a file. Whether it fits the robots served here is seen when the guards are built."""
    if path is None:
        return Settings()
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Settings)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SettingsError(f"{_NAME}: {path}: {error}") from None
