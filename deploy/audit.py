"""`make audit`: a bill of materials (CycloneDX) for every locked file, then whether what they pin has known faults.

The first needs no network. The second asks a service on the internet; where that cannot be reached, or knows nothing, it is said
and the exit status is 3, so that nobody takes silence for a clean bill. Exit status 1: there are known faults. Runs in the
environment of requirements/audit.txt, so it imports nothing of ours.
"""

import json
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "audit"
# A release with a fault that everybody knows of. A service that does not know it (a mirror without that knowledge) knows nothing.
_KNOWN_FAULTY = "jinja2==2.10"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the service said; None: nothing that can be believed."""

    faults: tuple[str, ...] | None
    unknown: tuple[str, ...] = ()  # packages that it could not say anything of


def main() -> int:
    """The exit status."""
    OUT.mkdir(parents=True, exist_ok=True)
    locked = sorted((ROOT / "requirements").glob("*.txt"))
    for path in locked:
        write_bill(path, OUT / f"{path.stem}.cdx.json")
        _say(f"{path.stem}: {len(components(OUT / f'{path.stem}.cdx.json'))} packages in build/audit/{path.stem}.cdx.json")
    answer = ask(locked) if is_informed() else Answer(faults=None)
    _say(told(answer))
    return status_of(answer)


def status_of(answer: Answer) -> int:
    """0 only when everything was looked up and nothing was found."""
    if answer.faults:
        return 1
    return 3 if answer.faults is None or answer.unknown else 0


def write_bill(locked: Path, out: Path) -> None:
    """The bill of one locked file, the same bytes for the same file. Raises CalledProcessError."""
    words = ("requirements", "--output-reproducible", "--of", "JSON", "--sv", "1.6", "-o", str(out), str(locked))
    subprocess.run([_program("cyclonedx-py"), *words], check=True, capture_output=True, text=True)


def components(bill: Path) -> dict[str, str]:
    """Name and version of everything in it."""
    found: list[dict[str, str]] = json.loads(bill.read_text()).get("components", [])
    return {one["name"]: one["version"] for one in found}


def is_informed() -> bool:
    """Whether the service knows what everybody knows."""
    known = OUT / "known-faulty.txt"
    known.write_text(f"{_KNOWN_FAULTY}\n")
    return bool(ask([known]).faults)


def ask(locked: list[Path]) -> Answer:
    """Asks about everything that these files pin."""
    report = OUT / "faults.json"
    report.unlink(missing_ok=True)
    files = [word for path in locked for word in ("-r", str(path))]
    words = ("--disable-pip", "--no-deps", "--format", "json", "--output", str(report))
    argv = [_program("pip-audit"), "--progress-spinner", "off", "--timeout", "15", *words, *files]
    subprocess.run(argv, capture_output=True, check=False)
    return answer_in(report.read_text() if report.exists() else "")


def answer_in(report: str) -> Answer:
    """What pip-audit wrote; it writes nothing when nobody answered."""
    if not report:
        return Answer(faults=None)
    packages = json.loads(report)["dependencies"]
    return Answer(
        faults=tuple(f"{one['name']} {one['version']}: {fault['id']}" for one in packages for fault in one.get("vulns", [])),
        unknown=tuple(one["name"] for one in packages if "skip_reason" in one),
    )


def told(answer: Answer) -> str:
    """One line for a person."""
    if answer.faults is None:
        return f"NOT AUDITED: no service answered that knows of faults (not even of the one in {_KNOWN_FAULTY})"
    lines = [*answer.faults, *(f"{name}: NOT AUDITED, nothing is known of it" for name in answer.unknown)]
    return "\n".join(lines) or "no known faults"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _program(name: str) -> str:
    return str(Path(sysconfig.get_path("scripts")) / name)


if __name__ == "__main__":
    sys.exit(main())
