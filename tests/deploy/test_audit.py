"""`make audit` takes no silence for a clean bill; the bills of materials name everything that is locked, by the real program."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from deploy.audit import Answer, answer_in, status_of, told
from deploy.embedded.settings import ROOT

_PYTHON = ROOT / ".venv-audit/bin/python"
_FAULTY = {"name": "jinja2", "version": "2.10", "vulns": [{"id": "PYSEC-2019-217", "fix_versions": ["2.10.1"]}]}
# What pip-audit wrote for jinja2 2.10 where the registry was a mirror; beside it it said that no faults were found.
_SKIPPED = {"name": "jinja2", "skip_reason": "Dependency not found on PyPI and could not be audited: jinja2 (2.10)"}
_CLEAN = {"name": "numpy", "version": "2.4.6", "vulns": []}


def _report(*packages: object) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


@pytest.mark.parametrize(
    ("report", "status", "said"),
    [
        ("", 3, "NOT AUDITED"),
        (_report(_SKIPPED, _CLEAN), 3, "jinja2: NOT AUDITED"),
        (_report(_FAULTY, _SKIPPED), 1, "jinja2 2.10: PYSEC-2019-217"),
        (_report(_CLEAN), 0, "no known faults"),
    ],
)
def test_only_what_was_looked_up_and_is_clean_is_clean(report: str, status: int, said: str) -> None:
    answer = answer_in(report)
    assert status_of(answer) == status
    assert said in told(answer)


def test_a_service_that_does_not_know_the_known_fault_is_not_believed() -> None:
    assert not answer_in(_report(_SKIPPED)).faults
    assert status_of(Answer(faults=None)) == 3


@pytest.mark.skipif(not _PYTHON.exists(), reason="`make audit` makes the environment that this needs")
def test_a_bill_names_everything_that_is_locked(tmp_path: Path) -> None:
    locked, out = ROOT / "requirements/app.txt", tmp_path / "app.cdx.json"
    code = f"from pathlib import Path; from deploy.audit import write_bill; write_bill(Path({str(locked)!r}), Path({str(out)!r}))"
    subprocess.run([_PYTHON, "-c", code], cwd=ROOT, check=True, capture_output=True)
    bill = json.loads(out.read_text())
    pinned = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;]+)", locked.read_text(), re.M))
    assert bill["bomFormat"] == "CycloneDX"
    assert {one["name"]: one["version"] for one in bill["components"]} == pinned
    assert all(reference["hashes"] for one in bill["components"] for reference in one["externalReferences"])
