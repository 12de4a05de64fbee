"""Every line and every branch of `billing/` is taken by a scenario: by a test that says what must happen, not by luck."""

from pathlib import Path

import pytest

from tests.branches import missed_branches

NOT_THIS = ["--ignore", "tests/billing/test_coverage.py"]
TRUTHS = "tests/control_plane/revenue/test_truths.py"  # the invariants, on tables that hold something


@pytest.mark.timeout(900)
def test_every_branch_of_billing_is_taken(tmp_path: Path) -> None:
    assert missed_branches("billing", ["tests/billing", TRUTHS, *NOT_THIS], tmp_path) == {}
