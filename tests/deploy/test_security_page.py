"""docs/SECURITY.md names only tests that exist."""

import ast
import re

from deploy.embedded.settings import ROOT
from tests.architecture.source_files import functions


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/SECURITY.md").read_text()))
    trees = (ast.parse(path.read_text()) for path in (ROOT / "tests").rglob("test_*.py"))
    written = {function.name for tree in trees for function in functions(tree)}
    assert len(named) > 40
    assert named - written == set()
