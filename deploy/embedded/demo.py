"""The demo customer's key, kept in `demo.json` (0600) because the database has only its digest.

Written by the step `database`, read by the supervisor for its canary and for the curl line. Knows no store.
"""

from pathlib import Path

import msgspec

from deploy.embedded.server import StartError
from deploy.embedded.state import write_private

DEMO_FILE = "demo.json"


class Demo(msgspec.Struct, frozen=True, kw_only=True):
    """Whose key it is (`cus_…`), and the key."""

    customer: str
    key: str


def write_demo(root: Path, demo: Demo) -> None:
    """Keeps it."""
    write_private(root / DEMO_FILE, msgspec.json.encode(demo))


def kept_demo(root: Path) -> Demo | None:
    """What was kept last; None when there is nothing to be read."""
    try:
        return msgspec.json.decode((root / DEMO_FILE).read_bytes(), type=Demo)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def read_demo(root: Path) -> Demo:
    """The same where it must be there. Raises StartError."""
    demo = kept_demo(root)
    if demo is None:
        raise StartError(f"{root / DEMO_FILE}: there is no demo key, though the step `database` has ended well")
    return demo
