"""docker-compose.yml as the real Docker Compose reads it, with made-up values for what it requires. No engine is needed for that.

`python -m tests.deploy.compose_file` rewrites the golden copy that a test compares with.
"""

import json
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from deploy.embedded.settings import ROOT

COMPOSE = ROOT / "docker-compose.yml"
GOLDEN = ROOT / "tests/golden/compose.yml"
IMAGES = ROOT / "deploy/docker/images.env"
PROFILES = ("gpu", "cpu", "export")
_REQUIRED = re.compile(r"\$\{([A-Z0-9_]+):\?")


def scripts(name: str) -> str:
    """A program of the development environment."""
    return str(Path(sysconfig.get_path("scripts")) / name)


def required() -> list[str]:
    """What compose.yml does not start without."""
    return sorted(set(_REQUIRED.findall(COMPOSE.read_text())))


def images() -> dict[str, str]:
    """Name and image of every line of images.env."""
    lines = [line for line in IMAGES.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def values() -> dict[str, str]:
    """The images, and for everything else a value that tells where it came from."""
    made_up = {name: f"the-{name.lower().replace('_', '-')}" for name in required()}
    return {**made_up, **images(), "VLA_PUBLIC_URL": "https://api.example.com"}


def ask(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """`docker-compose --profile … config …`, with these variables only: no .env of this checkout is read."""
    profiles = [word for profile in PROFILES for word in ("--profile", profile)]
    argv = [scripts("docker-compose"), "--env-file", "/dev/null", "-f", str(COMPOSE), *profiles, "config", *words]
    return subprocess.run(
        argv, cwd=ROOT, env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True, check=False
    )


def as_read() -> dict[str, Any]:
    """The whole model, merged and filled in."""
    found = ask(values(), "--format", "json", "--no-path-resolution")
    assert found.returncode == 0, found.stderr
    model: dict[str, Any] = json.loads(found.stdout)
    return model


def golden() -> str:
    """The same as text, for people who review a change."""
    found = ask(values(), "--no-path-resolution")
    assert found.returncode == 0, found.stderr
    return f"# What docker-compose.yml amounts to, as Docker Compose reads it. Rewritten by `make golden`.\n{found.stdout}"


if __name__ == "__main__":
    GOLDEN.write_text(golden())
