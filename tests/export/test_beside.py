"""A bundle beside another one: whole, proven, under its own name in Triton; nothing is lost when it cannot be put there."""

import shutil
from pathlib import Path

import pytest

from export.beside import put_beside
from export.bundle import BundleChanged, refuse_changes
from export.contract.manifest import load_manifest
from export.place import PlaceRefused

pytestmark = pytest.mark.export
SHIPPED = Path("model_repository/tabletop")


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The shipped bundle in a repository of its own."""
    shutil.copytree(SHIPPED, tmp_path / "tabletop", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "tabletop"


def test_it_is_whole_and_has_its_own_name_in_triton(published: Path) -> None:
    for _ in range(2):  # again is as good
        place = put_beside(published, published.parent)
    manifest = load_manifest(place)
    refuse_changes(place, manifest)
    refuse_changes(published, load_manifest(published))
    assert (place.name, manifest.policy, manifest.version) == ("tabletop.1", "tabletop", 1)
    assert 'name: "tabletop.1"\n' in (place / "config.pbtxt").read_text()


def test_a_damaged_bundle_is_not_put_anywhere(published: Path) -> None:
    (published / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleChanged):
        put_beside(published, published.parent)
    assert not (published.parent / "tabletop.1").exists()


def test_what_no_export_has_written_is_not_overwritten(published: Path) -> None:
    (published.parent / "tabletop.1").mkdir()
    (published.parent / "tabletop.1" / "notes.txt").write_text("mine")
    with pytest.raises(PlaceRefused, match="notes"):
        put_beside(published, published.parent)
    with pytest.raises(PlaceRefused, match="lies beside its policy already"):
        put_beside(_beside(published), published.parent)


def _beside(published: Path) -> Path:
    shutil.rmtree(published.parent / "tabletop.1")
    return put_beside(published, published.parent)
