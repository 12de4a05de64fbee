"""`make audit`: a bill of materials (CycloneDX) for every locked file, then whether what they pin has known faults.

The first needs no network. The second asks a service on the internet; where that cannot be reached, knows nothing, or the
program fails, it is said and the exit status is 3, so that nobody takes silence for a clean bill. Exit status 1: there are known
faults; 2: no bill could be written. Runs in the environment of requirements/audit.txt, so it imports nothing of ours.
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
_IGNORANT = f"no service answered that knows of faults (not even of the one in {_KNOWN_FAULTY})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the service said; None: nothing that can be believed, and `why` is what the program said instead."""

    faults: tuple[str, ...] | None
    unknown: tuple[str, ...] = ()  # packages that it could not say anything of
    why: str = ""


def main() -> int:
    """The exit status."""
    OUT.mkdir(parents=True, exist_ok=True)
    locked = sorted((ROOT / "requirements").glob("*.txt"))
    for path in locked:
        bill = OUT / f"{path.stem}.cdx.json"
        try:
            write_bill(path, bill)
        except subprocess.CalledProcessError as error:
            _say(f"{path.stem}: NO BILL OF MATERIALS: {_last_line(error.stderr)}")
            return 2
        _say(f"{path.stem}: {len(components(bill))} packages in {bill}")
    known = is_informed()
    answer = ask(locked) if known.faults else Answer(faults=None, why=known.why or _IGNORANT)
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


def is_informed() -> Answer:
    """What the service knows of what everybody knows: without faults in it, its silence about others says nothing."""
    known = OUT / "known-faulty.txt"
    known.write_text(f"{_KNOWN_FAULTY}\n")
    return ask([known])


def ask(locked: list[Path]) -> Answer:
    """Asks about everything that these files pin."""
    report = OUT / "faults.json"
    report.unlink(missing_ok=True)
    files = [word for path in locked for word in ("-r", str(path))]
    words = ("--disable-pip", "--no-deps", "--format", "json", "--output", str(report))
    argv = [_program("pip-audit"), "--progress-spinner", "off", "--timeout", "15", *words, *files]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    answer = answer_in(report.read_text() if report.exists() else "")
    if answer.faults is None or done.returncode != (1 if answer.faults else 0):  # 1 is its word for faults and for its own errors
        return Answer(faults=None, why=f"pip-audit ended with {done.returncode}: {_last_line(done.stderr)}")
    return answer


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
        return f"NOT AUDITED: {answer.why}"
    lines = [*answer.faults, *(f"{name}: NOT AUDITED, nothing is known of it" for name in answer.unknown)]
    return "\n".join(lines) or "no known faults"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _program(name: str) -> str:
    return str(Path(sysconfig.get_path("scripts")) / name)


if __name__ == "__main__":
    sys.exit(main())
