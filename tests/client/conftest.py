"""One whole service for the customers' tests: the SDK, the examples, the docs and the fuzzer talk to it as customers do."""

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.stack import Stack, running_stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """`vlaapi up` with a state folder and ports of its own, and a customer whom no limit stops."""
    folder = Path(tempfile.gettempdir()) / f"vla-{secrets.token_hex(4)}"
    try:
        with running_stack(folder) as stack:
            yield stack
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def url(stack: Stack) -> str:
    """Where it listens."""
    return f"http://{stack.host}:{stack.port}"
