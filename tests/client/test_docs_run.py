"""The customers' pages are run: every command and program, in order, against the real service; what they show comes."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.stack import Stack
from tests.architecture.source_files import ROOT

PAGES = ("docs/BEGINNERS_API_GUIDE.md", "docs/VLA-API-README.md")
_BLOCK = re.compile(r"^(<!-- not run: [^\n]+ -->\n)?```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block. `file` is where it says it is to be saved."""

    language: str
    text: str
    file: str | None
    is_run: bool


def blocks(page: str) -> Iterator[Block]:
    """Those of a page, in order."""
    for excuse, language, file, text in _BLOCK.findall((ROOT / page).read_text()):
        yield Block(language=language, text=text, file=file or None, is_run=not excuse)


class Reader:
    """Somebody who follows a page to the letter, in a folder of their own."""

    def __init__(self, folder: Path, *, url: str, key: str) -> None:
        self._folder = folder
        shutil.copytree(ROOT / "examples", folder / "examples")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = {**os.environ, "URL": url, "KEY": key, "PATH": path, "PYTHONPATH": str(ROOT / "client")}

    def follow(self, block: Block) -> str | None:
        """What a command or a program printed; None for what is only read or saved."""
        if block.file is not None:
            (self._folder / block.file).write_text(block.text)
            return None
        if not block.is_run or block.language not in {"sh", "python"}:
            return None
        argv = ["bash", "-euo", "pipefail", "-c"] if block.language == "sh" else [sys.executable, "-c"]
        done = subprocess.run(
            [*argv, block.text], cwd=self._folder, env=self._environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def _shape(value: Any) -> Any:
    """The names in a JSON value, all the way down."""
    return {name: _shape(inner) for name, inner in value.items()} if isinstance(value, dict) else None


def _is_within(shown: Any, real: Any) -> bool:
    if not isinstance(shown, dict) or not isinstance(real, dict):
        return shown is None
    return all(name in real and (inner is None or _is_within(inner, real[name])) for name, inner in shown.items())


@pytest.mark.parametrize("page", PAGES)
def test_who_follows_the_page_gets_what_it_shows(stack: Stack, url: str, tmp_path: Path, page: str) -> None:
    reader, printed, seen = Reader(tmp_path, url=url, key=stack.key), "", 0
    for block in blocks(page):
        if block.language == "json":
            assert _is_within(_shape(json.loads(block.text)), _shape(json.loads(printed))), block.text
        elif block.language == "text":
            assert block.text.strip() in printed
        else:
            printed = reader.follow(block) or printed
            seen += block.is_run
    assert seen >= 2


def test_a_block_is_left_out_only_with_a_reason() -> None:
    every = [block for page in PAGES for block in blocks(page)]
    assert {block.language for block in every} == {"sh", "python", "json", "text"}
    assert len([block for block in every if not block.is_run]) <= 2


def test_the_programs_of_the_packages_own_page_are_valid_python() -> None:
    programs = [block.text for block in blocks("client/README.md") if block.language == "python"]
    assert len(programs) == 5
    for program in programs:
        compile(program, "client/README.md", "exec")
