"""The one command. It imports no other room: each word is run as that room's own `python -m`, in the environment that room needs.

`vlaapi up` → deploy.embedded, `vlaapi customers` → control_plane, `vlaapi export` → export (torch), `vlaapi tabletop` → tabletop.
Commands of the control plane speak to the service that `vlaapi up` started last, unless the environment names another one.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Where a word is answered: the module to run, whether it takes the word itself, and the environment folder it needs."""

    module: str
    takes_word: bool
    environment: str | None
    help: str


APP, EXPORT = None, ".venv-export"
CONTROL_PLANE = "control_plane.cli"

# What only deploy.embedded reads (a test compares): the control plane refuses settings that it does not know.
EMBEDDED_ONLY = frozenset(
    f"VLA_{name}"
    for name in (
        *("STATE_DIR", "LISTEN_ADDRESS", "PORT", "API_PROCESSES", "DOOR_KEY_PER_S", "DOOR_ADDRESS_PER_S"),
        *("POSTGRES_PORT", "VALKEY_PORT", "TRITON_GRPC_PORT", "TRITON_HTTP_PORT", "TRITON_METRICS_PORT"),
        *("POSTGRES_BIN", "VALKEY_BIN", "NGINX_BIN", "TRITON_VENV", "TRITON_BIN"),
    )
)
WORDS: dict[str, Room] = {
    "up": Room(module="deploy.embedded", takes_word=True, environment=APP, help="start the whole service on this machine"),
    "down": Room(module="deploy.embedded", takes_word=True, environment=APP, help="stop it, in order"),
    "status": Room(module="deploy.embedded", takes_word=True, environment=APP, help="what runs, where, and the demo key"),
    "logs": Room(module="deploy.embedded", takes_word=True, environment=APP, help="the log of one of its servers"),
    "customers": Room(module=CONTROL_PLANE, takes_word=True, environment=APP, help="create, list and change customers"),
    "keys": Room(module=CONTROL_PLANE, takes_word=True, environment=APP, help="create, list and revoke API keys"),
    "migrate": Room(module=CONTROL_PLANE, takes_word=True, environment=APP, help="bring the database schema up to date"),
    "worker": Room(module=CONTROL_PLANE, takes_word=True, environment=APP, help="record usage events"),
    "export": Room(module="export", takes_word=False, environment=EXPORT, help="make, verify and benchmark policies"),
    "tabletop": Room(
        module="tabletop", takes_word=False, environment=EXPORT, help="simulate, train and evaluate the shipped policy"
    ),
}


def main() -> None:
    """Replaces this process with the room's own command."""
    words = sys.argv[1:]
    if not words or words[0] in {"-h", "--help"}:
        sys.stdout.write(_usage())
        return
    room = WORDS.get(words[0])
    if room is None:
        sys.exit(f"vlaapi: unknown command {words[0]!r}\n\n{_usage()}")
    python = _python(room)
    arguments = words if room.takes_word else words[1:]
    environment = of_running_service(os.environ) if room.module == CONTROL_PLANE else dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    os.execve(python, [python, "-m", room.module, *arguments], environment)  # noqa: S606 -- a fixed table, no shell


def of_running_service(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with the settings of the service whose state folder is set (or the usual one); set names win."""
    path = Path(environment.get("VLA_STATE_DIR") or ROOT / ".vlaapi") / "env"
    lines = path.read_text().splitlines() if path.exists() else []
    settings = dict(line.split("=", 1) for line in lines)
    return settings | {name: value for name, value in environment.items() if name not in EMBEDDED_ONLY}


def _python(room: Room) -> str:
    if room.environment is None:
        return sys.executable
    python = ROOT / room.environment / "bin" / "python"
    if not python.exists():
        sys.exit(f"vlaapi: this command needs {room.environment}; run `make {room.environment.removeprefix('.')}` first")
    return str(python)


def _usage() -> str:
    rows = "".join(f"  {word:<10} {room.help}\n" for word, room in WORDS.items())
    return f"usage: vlaapi COMMAND …\n\n{rows}\n`vlaapi COMMAND --help` says more.\n"


if __name__ == "__main__":
    main()
