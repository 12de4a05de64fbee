"""Bundles for tests: the shipped policy under another version beside it, as `vlaapi export --beside` would write it."""

import json
import shutil
from pathlib import Path

from tests.control_plane.fakes import ROOT

SHIPPED = ROOT / "model_repository" / "tabletop"


def repository_with(folder: Path, *versions: int) -> Path:
    """A repository of its own with the shipped policy, and copies of it as these versions."""
    folder.mkdir()
    shutil.copytree(SHIPPED, folder / "tabletop", ignore=shutil.ignore_patterns("__pycache__"))
    for version in versions:
        put_beside(folder, version)
    return folder


def put_beside(repository: Path, version: int) -> Path:
    """One more version, a model of its own in Triton."""
    place = repository / f"tabletop.{version}"
    shutil.copytree(SHIPPED, place, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "1").rename(place / str(version))
    manifest = json.loads((place / "manifest.json").read_text())
    (place / "manifest.json").write_text(json.dumps({**manifest, "version": version}))
    config = (place / "config.pbtxt").read_text()
    config = config.replace('name: "tabletop"\n', f'name: "{place.name}"\n').replace("versions: [1]", f"versions: [{version}]")
    (place / "config.pbtxt").write_text(config)
    return place
