"""Which service a command speaks to: the one that the environment describes, or else the one that `make up` started here.

Composition roots of commands ask it; loads nothing that only some of them need.
"""

from collections.abc import Mapping
from pathlib import Path

from control_plane.settings import SettingsError, StoreSettings, load_store_settings, variable

_ROOT = Path(__file__).resolve().parent.parent
_STATE_DIR = variable("state_dir")

# Whoever sets one of these speaks of a service of their own: nothing is then taken from a local one. A pepper of the one with a
# database of the other would make keys that nobody accepts.
_STORES = tuple(variable(name) for name in ("database_url", "redis_url", "key_pepper"))


def store_settings(environment: Mapping[str, str]) -> StoreSettings:
    """What its stores are. Raises SettingsError."""
    return load_store_settings(service(environment))


def service(environment: Mapping[str, str]) -> Mapping[str, str]:
    """The environment that describes it. Raises SettingsError."""
    is_given = any(name in environment for name in _STORES)
    return environment if is_given else _local(environment)


def _local(environment: Mapping[str, str]) -> Mapping[str, str]:
    """What `make up` wrote for its own processes: lines of NAME=VALUE, readable by its owner only."""
    path = Path(environment.get(_STATE_DIR) or _ROOT / ".vlaapi") / "env"
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        raise SettingsError(f"there is no service here: run `make up` first, or set {', '.join(_STORES)}") from None
    except PermissionError:
        raise SettingsError(f"{path} belongs to someone else: run this as the user who ran `make up`") from None
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
