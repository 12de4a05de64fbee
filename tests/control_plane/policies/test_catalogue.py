"""Only policies whose every fact can be trusted are served."""

import json
import shutil
from pathlib import Path

import pytest

from control_plane.policies.catalogue import load_catalogue
from export.contract.manifest import ManifestError
from tests.control_plane.fakes import ROOT

SHIPPED = ROOT / "model_repository"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of what is shipped, without weights."""
    shutil.copytree(SHIPPED, tmp_path / "repository", ignore=shutil.ignore_patterns("*.onnx", "__pycache__"))
    return tmp_path / "repository"


def test_the_shipped_repository_loads() -> None:
    catalogue = load_catalogue(SHIPPED, default="tabletop")
    assert list(catalogue.policies) == ["tabletop"]
    assert catalogue.find(None) is catalogue.find("tabletop")
    assert catalogue.find("other") is None


def test_a_default_that_is_not_there_stops_the_start(repository: Path) -> None:
    with pytest.raises(ManifestError, match="openvla"):
        load_catalogue(repository, default="openvla")


def test_a_folder_without_a_manifest_stops_the_start(repository: Path) -> None:
    (repository / "half-copied").mkdir()
    with pytest.raises(ManifestError, match="half-copied"):
        load_catalogue(repository, default="tabletop")


def test_a_folder_of_another_name_stops_the_start(repository: Path) -> None:
    (repository / "tabletop").rename(repository / "renamed")
    with pytest.raises(ManifestError, match="same name"):
        load_catalogue(repository, default="renamed")


def test_a_broken_fact_stops_the_start_and_is_named(repository: Path) -> None:
    path = repository / "tabletop" / "manifest.json"
    facts = json.loads(path.read_text())
    facts["action"]["horizon"] = 0
    path.write_text(json.dumps(facts))
    with pytest.raises(ManifestError, match=r"action\.horizon"):
        load_catalogue(repository, default="tabletop")


def test_no_repository_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ManifestError):
        load_catalogue(tmp_path / "nowhere", default="tabletop")
