"""Every line and every branch of `safety/` is taken by a scenario: by a test that says what must happen, not by luck."""

from pathlib import Path

import pytest

from tests.branches import missed_branches

NOT_THESE = ["--ignore", "tests/safety/test_coverage.py", "--ignore", "tests/safety/test_docs.py"]


@pytest.mark.timeout(900)
def test_every_branch_of_the_guard_is_taken(tmp_path: Path) -> None:
    assert missed_branches("safety", ["tests/safety", *NOT_THESE], tmp_path) == {}
