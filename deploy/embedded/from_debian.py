"""Fetches Prometheus and Alertmanager, which no wheel carries, from Debian or Ubuntu: `python3 from_debian.py FOLDER`.

Nothing is installed and no root is needed: apt checks the signatures as always, with lists of its own, and the packages are
unpacked into FOLDER; programs that are on PATH already are linked instead. Standard library only, as `preflight.py`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Our name of a program, and where Debian's packages keep it.
PROGRAMS = {
    "prometheus": "usr/bin/prometheus",
    "promtool": "usr/bin/promtool",
    "alertmanager": "usr/bin/prometheus-alertmanager",
    "amtool": "usr/bin/amtool",
}
_PACKAGES = ("prometheus", "prometheus-alertmanager")

# Debian's Alertmanager does not start without its templates, and looks for them only where they would be installed. The unpacked
# copy is made to look in the folder that it is started in: another name of the same length, because it lies inside the program.
_TEMPLATES = b"/usr/share/prometheus/alertmanager"
_WORKING_FOLDER = b"." + b"/" * (len(_TEMPLATES) - 1)


class CannotFetchError(Exception):
    """It cannot be had this way; the text says why, in one line."""


def fetch(folder: Path) -> str:
    """Puts links to the four programs into `folder/bin`. Returns where they are from. Raises CannotFetchError."""
    here = {name: found(name) for name in PROGRAMS}
    if all(here.values()):
        _link(folder, {name: path for name, path in here.items() if path is not None})
        return "those on PATH"
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise CannotFetchError("there is no apt here; put prometheus, promtool, alertmanager and amtool on PATH")
    with tempfile.TemporaryDirectory() as aside:
        packages = _download(Path(aside))
        for package in packages:
            _run(["dpkg", "-x", str(package), str(folder)])
    alertmanager = folder / PROGRAMS["alertmanager"]
    alertmanager.write_bytes(alertmanager.read_bytes().replace(_TEMPLATES, _WORKING_FOLDER))
    _link(folder, {name: folder / inside for name, inside in PROGRAMS.items()})
    return ", ".join(package.name.rpartition("_")[0] for package in packages)


def found(name: str) -> Path | None:
    """The program on PATH, by our name or by Debian's."""
    path = shutil.which(name) or shutil.which(Path(PROGRAMS[name]).name)
    return None if path is None else Path(path)


def _download(folder: Path) -> list[Path]:
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    own = [f"Dir::State::lists={folder}/lists", f"Dir::Cache={folder}/cache", "APT::Sandbox::User="]
    apt = ["apt-get", "-qq", *(word for option in own for word in ("-o", option))]
    _run([*apt, "update"])
    _run([*apt, "download", *_PACKAGES], folder=folder)
    return sorted(folder.glob("*.deb"))


def _run(words: list[str], *, folder: Path | None = None) -> None:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no reason was given"])[0]
        raise CannotFetchError(f"{words[0]} {words[-1]}: {said}")


def _link(folder: Path, programs: dict[str, Path]) -> None:
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    for name, target in programs.items():
        if not target.exists():
            raise CannotFetchError(f"{target} is not in the package")
        link = folder / "bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to(target)


if __name__ == "__main__":
    try:
        sys.stdout.write(f"  {fetch(Path(sys.argv[1]).absolute())}\n")
    except CannotFetchError as error:
        sys.exit(f"vlaapi: {error}")
