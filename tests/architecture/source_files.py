"""Finds the product's Python files and parses them; used by the architecture tests only."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    "vlaapi",
    "control_plane",
    "safety",
    "billing",
    "export",
    "tabletop",
    "lerobot_v3",
    "deploy",
    "dashboards",
    "benchmarks",
    "scripts",
    "client",
    "examples",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One parsed file; `name` is its path from the repository's root."""

    name: str
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The top-level folder."""
        return self.name.partition("/")[0]


def sources(*, with_tests: bool = False) -> Iterator[Source]:
    """Every Python file of the product, sorted."""
    for room in ROOMS + (("tests",) if with_tests else ()):
        for path in sorted((ROOT / room).rglob("*.py")):
            text = path.read_text()
            yield Source(name=str(path.relative_to(ROOT)), text=text, tree=ast.parse(text))


def imports(tree: ast.Module) -> set[str]:
    """Top-level names of every package imported anywhere in the file."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
