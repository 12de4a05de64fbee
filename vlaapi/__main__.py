"""The one command. It imports no other room: each word is run as that room's own `python -m`, in the environment that room needs.

`vlaapi up` → deploy.embedded, `vlaapi customers` → control_plane, `vlaapi export` → export (torch), `vlaapi tabletop` → tabletop.
"""

import os
import sys
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
WORDS: dict[str, Room] = {
    "up": Room(module="deploy.embedded", takes_word=True, environment=APP, help="start the whole service on this machine"),
    "down": Room(module="deploy.embedded", takes_word=True, environment=APP, help="stop it, in order"),
    "status": Room(module="deploy.embedded", takes_word=True, environment=APP, help="what runs, where, and the demo key"),
    "logs": Room(module="deploy.embedded", takes_word=True, environment=APP, help="the log of one of its servers"),
    "customers": Room(module="control_plane.cli", takes_word=True, environment=APP, help="create, list and change customers"),
    "keys": Room(module="control_plane.cli", takes_word=True, environment=APP, help="create, list and revoke API keys"),
    "policies": Room(module="control_plane.cli", takes_word=True, environment=APP, help="what is served, and to whom"),
    "replicas": Room(module="control_plane.cli", takes_word=True, environment=APP, help="see, drain and resume the Tritons"),
    "safety": Room(module="control_plane.cli", takes_word=True, environment=APP, help="limit and calibrate the action guard"),
    "data": Room(module="control_plane.cli", takes_word=True, environment=APP, help="delete, export and build from what is kept"),
    "storage": Room(module="control_plane.cli", takes_word=True, environment=APP, help="set up and check the object store"),
    "usage": Room(module="control_plane.cli", takes_word=True, environment=APP, help="check what was metered"),
    "invoices": Room(module="control_plane.cli", takes_word=True, environment=APP, help="close months, get paid, correct"),
    "mails": Room(module="control_plane.cli", takes_word=True, environment=APP, help="e-mails that wait, were sent, or are dead"),
    "revenue": Room(
        module="control_plane.cli", takes_word=True, environment=APP, help="what the business earns, as tables and a page"
    ),
    "billing": Room(module="control_plane.cli", takes_word=True, environment=APP, help="whether the books are true"),
    "dashboards": Room(module="control_plane.cli", takes_word=True, environment=APP, help="who may read what dashboards show"),
    "operators": Room(module="control_plane.cli", takes_word=True, environment=APP, help="who may use the operators' API"),
    "audit": Room(module="control_plane.cli", takes_word=True, environment=APP, help="who changed what"),
    "webhooks": Room(module="control_plane.cli", takes_word=True, environment=APP, help="deliveries to customers' webhooks"),
    "signups": Room(module="control_plane.cli", takes_word=True, environment=APP, help="requests for access: approve, reject"),
    "migrate": Room(module="control_plane.cli", takes_word=True, environment=APP, help="bring the database schema up to date"),
    "worker": Room(module="control_plane.cli", takes_word=True, environment=APP, help="record usage events"),
    "backup": Room(module="control_plane.cli", takes_word=True, environment=APP, help="back up, prove, restore"),
    "redis": Room(module="control_plane.cli", takes_word=True, environment=APP, help="make what Redis held again"),
    "restart": Room(module="deploy.embedded", takes_word=True, environment=APP, help="replace the API processes one by one"),
    "export": Room(module="export.start", takes_word=False, environment=EXPORT, help="make, verify and benchmark policies"),
    "tabletop": Room(
        module="tabletop", takes_word=False, environment=EXPORT, help="simulate, train and evaluate the shipped policy"
    ),
}
# What PostgreSQL starts for every file of its log is not to load all commands.
LOG_FILES = Room(module="control_plane.log_files", takes_word=True, environment=APP, help="one file of PostgreSQL's log")


def main() -> None:
    """Replaces this process with the room's own command."""
    words = sys.argv[1:]
    if not words or words[0] in {"-h", "--help"}:
        sys.stdout.write(_usage())
        return
    room = LOG_FILES if words[0] == "backup" and words[1:2] in (["wal-push"], ["wal-fetch"]) else WORDS.get(words[0])
    if room is None:
        sys.exit(f"vlaapi: unknown command {words[0]!r}\n\n{_usage()}")
    python = _python(room)
    arguments = words if room.takes_word else words[1:]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "client"), os.environ.get("PYTHONPATH")]))
    os.execv(python, [python, "-m", room.module, *arguments])  # noqa: S606 -- a fixed table, no shell


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
