"""Says in one line each what this machine lacks, before anything is downloaded: `python3 preflight.py FOLDER`.

Standard library only and no package around it: `make setup` runs it with the machine's own Python, before any environment exists.
"""

from __future__ import annotations  # a Python that is too old must get as far as being told so

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

_OLDEST, _NEWEST = (3, 11), (3, 13)  # the newest is the last that Triton's Python backend has a stub for
_OLDEST_GLIBC = (2, 35)
_FREE_MB = 2000
_LIBRARY_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")


def faults(folder: Path) -> list[str]:
    """What has to be changed, one line each."""
    found = [_platform(), _glibc(), _python(), _venv(), _libpython(), _disk(folder)]
    return [fault for fault in found if fault]


def _platform() -> str | None:
    here = f"{platform.system()} {platform.machine()}"
    return None if here == "Linux x86_64" else f"this is {here}; the embedded Triton exists for Linux x86_64 only"


def _glibc() -> str | None:
    name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "another C library").partition(" ")
    if name == "glibc" and tuple(map(int, version.split("."))) >= _OLDEST_GLIBC:
        return None
    return f"the embedded Triton needs glibc 2.35 or newer (Debian 12, Ubuntu 22.04); this is {name} {version}".rstrip()


def _python() -> str | None:
    if _OLDEST <= sys.version_info[:2] <= _NEWEST:
        return None
    return f"Python 3.11, 3.12 or 3.13 is needed, this is {platform.python_version()}; name one: make PYTHON=python3.11 up"


def _venv() -> str | None:
    if importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        return None
    return "python3-venv is missing; on Debian and Ubuntu: apt install python3-venv"


def _libpython() -> str | None:
    """Triton's Python backend is linked against it; Debian keeps it apart from the interpreter."""
    name = f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"
    folders = [Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib"), *map(Path, _LIBRARY_FOLDERS)]
    if any((folder / name).exists() for folder in folders):
        return None
    return f"{name} is missing; on Debian and Ubuntu: apt install python3-dev"


def _disk(folder: Path) -> str | None:
    if not os.access(folder, os.W_OK):
        return f"{folder} cannot be written by this user"
    free_mb = shutil.disk_usage(folder).free // 1_000_000
    return None if free_mb >= _FREE_MB else f"{folder} has {free_mb} MB free; {_FREE_MB} MB are needed"


if __name__ == "__main__":
    lines = faults(Path(sys.argv[1]))
    sys.stderr.write("".join(f"vlaapi: {line}\n" for line in lines))
    sys.exit(1 if lines else 0)
