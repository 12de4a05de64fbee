"""`python -m export.contract.compile_bicubic`: compiles `bicubic.c` beside itself, with whatever C compiler is there.

Without a compiler, or for another kind of processor, it says so and succeeds: Pillow then does the same work in more time.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from export.contract.bicubic import SOURCE, library_path

_FLAGS = ("-std=c11", "-O3", "-mavx2", "-shared", "-fPIC")


def main() -> None:
    """Says in one line what came of it."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if platform.machine() not in {"x86_64", "AMD64"}:
        _say(f"the faster resize is for x86-64, this is {platform.machine()}")
    elif compiler is None:
        _say("no C compiler (Debian: apt install gcc)")
    else:
        try:
            compile_to(library_path(), compiler=compiler)
        except OSError as error:
            _say(f"{compiler} failed: {error}")


def compile_to(path: Path, *, compiler: str) -> None:
    """Whole or not at all: a process that starts meanwhile never loads half a library."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".bicubic-") as folder:
        made = Path(folder) / path.name
        done = subprocess.run(
            [*shlex.split(compiler), *_FLAGS, "-o", str(made), str(SOURCE)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            _say(f"{compiler} failed: {' '.join((done.stderr or done.stdout).split())[:300]}")
            return
        made.replace(path)


def _say(why: str) -> None:
    sys.stdout.write(f"· pictures are resized by Pillow, which takes more time: {why}\n")


if __name__ == "__main__":
    main()
