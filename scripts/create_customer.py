#!/usr/bin/env python3
"""Creates a customer and prints their API key, once: `python scripts/create_customer.py [--company-name … --email … --tier …]`.

The same as `vlaapi customers create`; asks for what is missing. May be started with any Python 3: it goes on in the environment
that `make setup` made. Standard library only up to there.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"


def main() -> None:
    """Becomes `python -m control_plane.cli customers create …`."""
    python = str(PYTHON) if PYTHON.exists() else _this_python()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    os.execv(python, [python, "-m", "control_plane.cli", "customers", "create", *sys.argv[1:]])  # noqa: S606 -- no shell


def _this_python() -> str:
    try:
        import typer  # noqa: F401 -- a question, not a use: is this an environment that has what the command needs?
    except ImportError:
        sys.exit("create_customer: the environment .venv is missing; run `make setup` first")
    return sys.executable


if __name__ == "__main__":
    main()
