"""Finds the service that a demo or an evaluation asks: the one on this machine, or the one that is named, and a key for it.

It reads what `vlaapi status` says and starts nothing.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
_STATUS_TIMEOUT_S = 60.0


class NoService(RuntimeError):  # noqa: N818 -- what is missing
    """There is nothing to ask; one line that says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Where to ask, and with which key."""

    url: str
    key: str = field(repr=False)


def find(url: str | None, key: str | None) -> Service:
    """The named service, or the running one of this checkout with its demo key. Raises NoService."""
    if url is not None and urlsplit(url).scheme not in {"http", "https"}:
        raise NoService(f"url {url!r}: write http://HOST:PORT, or leave it out and the running service is asked")
    if url is not None and key is not None:
        return Service(url=url, key=key)
    if url is not None:  # the demo key is this machine's secret
        raise NoService(f"url {url!r}: needs a key of that service, in VLA_KEY or --key")
    told = _status()
    if told.get("state") != "ready":
        raise NoService("no service is running here: `make up` starts one, or name another with --url and VLA_KEY")
    return Service(url=str(told["url"]), key=key or str(told["demo_key"]))


def _status() -> dict[str, object]:
    python = ROOT / ".venv" / "bin" / "python"  # the service's own environment, which this one is not
    command = [str(python if python.exists() else sys.executable), "-m", "deploy.embedded", "status", "--json"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=_STATUS_TIMEOUT_S,
            check=False,
        )
        found: dict[str, object] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}
    return found
