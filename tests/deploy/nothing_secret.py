"""Looks for the secrets of a running service where none may be: in command lines, in logs, in files that others can read."""

import json
import stat
from pathlib import Path

import psutil


def secrets_of(state: Path) -> dict[str, bytes]:
    """What `make up` has made for itself, and the demo key, by name."""
    made: dict[str, str] = json.loads((state / "secrets.json").read_text())
    return {
        name: value.encode() for name, value in {**made, "demo_key": json.loads((state / "demo.json").read_text())["key"]}.items()
    }


def in_command_lines(secrets: dict[str, bytes]) -> list[str]:
    """Which of them any process of this machine says of itself, where everybody can read it."""
    seen = []
    for process in psutil.process_iter(["cmdline"]):
        words = "\0".join(process.info["cmdline"] or ()).encode()
        seen += [f"{name} in the command line of {process.pid}" for name, secret in secrets.items() if secret in words]
    return seen


def in_files(secrets: dict[str, bytes], folder: Path) -> list[str]:
    """Which of them a file below the folder holds."""
    return [
        f"{name} in {path}"
        for path in folder.rglob("*")
        if path.is_file()
        for text in [path.read_bytes()]
        for name, secret in secrets.items()
        if secret in text
    ]


def open_to_others(*folders: Path) -> list[str]:
    """What group or others may enter or read: of the folders, everything directly in them that holds a secret."""
    private = [
        path for folder in folders for path in (folder, *folder.glob("*.json"), *folder.glob("*.conf"), *folder.glob("env"))
    ]
    return [f"{path}: {stat.filemode(path.stat().st_mode)}" for path in private if path.stat().st_mode & 0o077]
