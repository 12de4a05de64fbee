"""The `vlaapi export` command says what it found and exits 1 when a bundle cannot be trusted."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from export.__main__ import app

pytestmark = pytest.mark.export
BUNDLE = Path("model_repository/tabletop")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    shutil.copytree(BUNDLE, tmp_path / "tabletop")
    return tmp_path


def test_a_good_bundle_is_proven(repository: Path) -> None:
    result = CliRunner().invoke(app, ["verify", "tabletop", "--repository", str(repository)])
    assert result.exit_code == 0
    assert "action: differs by at most" in result.stdout


def test_a_changed_bundle_is_refused(repository: Path) -> None:
    with (repository / "tabletop" / "config.pbtxt").open("a") as config:
        config.write("# changed\n")
    result = CliRunner().invoke(app, ["verify", "tabletop", "--repository", str(repository)])
    assert result.exit_code == 1
    assert "changed since export: config.pbtxt" in result.stdout


def test_a_missing_bundle_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["verify", "tabletop", "--repository", str(tmp_path)])
    assert result.exit_code == 1
    assert "no manifest" in result.stdout
