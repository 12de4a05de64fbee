"""`make audit` takes no silence for a clean bill; the bills of materials name everything that is locked, by the real program."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from deploy import audit
from deploy.audit import answer_in, status_of, told
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


_BILL = """#!/bin/sh
while [ "$1" != -o ]; do shift; done
echo '{"bomFormat": "CycloneDX", "components": []}' >"$2"
"""


def _pip_audit(*, known: str, all_others: str) -> str:
    """A program that does this for the release that is known to be faulty, and that for what is locked."""
    return f"""#!/bin/sh
case "$*" in *known-faulty.txt*) is_known=1 ;; esac
while [ "$1" != --output ]; do shift; done
out=$2
if [ -n "$is_known" ]; then
{known}
fi
{all_others}
"""


def _house(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Two locked files, and the programs of `root`."""
    (root / "requirements").mkdir()
    for name in ("app.txt", "dev.txt"):
        (root / "requirements" / name).touch()
    monkeypatch.setattr(audit, "ROOT", root)
    monkeypatch.setattr(audit, "OUT", root / "out")
    monkeypatch.setattr(audit, "_program", lambda name: str(root / name))


def _writes(report: str, status: int) -> str:
    return f"cat >\"$out\" <<'END'\n{report}\nEND\nexit {status}"


_KNOWS, _FAILS = _writes(_report(_FAULTY), 1), "echo 'Traceback' >&2; echo 'ConnectionError: it is away' >&2; exit 1"


@pytest.mark.parametrize(
    ("known", "all_others", "status", "said"),
    [
        (_KNOWS, _writes(_report(_CLEAN), 0), 0, "no known faults"),
        (_KNOWS, _writes(_report(_FAULTY, _CLEAN), 1), 1, "jinja2 2.10: PYSEC-2019-217"),
        (_KNOWS, _writes(_report(_CLEAN, _SKIPPED), 0), 3, "jinja2: NOT AUDITED"),
        (_writes(_report(_SKIPPED), 0), _writes(_report(_CLEAN), 0), 3, "NOT AUDITED: no service answered that knows of faults"),
        (_FAILS, _FAILS, 3, "NOT AUDITED: pip-audit ended with 1: ConnectionError: it is away"),
        (_KNOWS, _FAILS, 3, "NOT AUDITED: pip-audit ended with 1: ConnectionError: it is away"),
        (_KNOWS, _writes(_report(_CLEAN), 1), 3, "NOT AUDITED: pip-audit ended with 1: it said nothing"),
    ],
)
def test_the_command_ends_as_what_it_learnt_deserves(
    known: str,
    all_others: str,
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, text in (("cyclonedx-py", _BILL), ("pip-audit", _pip_audit(known=known, all_others=all_others))):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    _house(monkeypatch, tmp_path)
    assert audit.main() == status
    told = capsys.readouterr().out
    assert said in told
    assert ("app: 0 packages" in told, "dev: 0 packages" in told) == (True, True)


def test_a_bill_that_cannot_be_written_ends_it_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cyclonedx-py").write_text("#!/bin/sh\necho 'no such option' >&2\nexit 2\n")
    (tmp_path / "cyclonedx-py").chmod(0o755)
    _house(monkeypatch, tmp_path)
    assert audit.main() == 2
    assert "NO BILL OF MATERIALS: no such option" in capsys.readouterr().out


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
