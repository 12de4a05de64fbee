"""It is a distribution of its own: it knows nothing of the service, needs little, and runs on the Pythons that robots run."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.architecture.source_files import ROOMS, ROOT, imports
from vlaapi_client import transport

CLIENT = ROOT / "client"
FILES = sorted((CLIENT / "vlaapi_client").glob("*.py"))
MANIFEST = (CLIENT / "pyproject.toml").read_text()


def test_it_imports_nothing_of_the_repository_and_nothing_that_it_does_not_declare() -> None:
    declared = {"httpx", "numpy", "PIL", "msgpack", "websockets", "typing_extensions", "vlaapi_client", "__future__"}
    for file in FILES:
        found = imports(ast.parse(file.read_text())) - set(sys.stdlib_module_names)
        assert found <= declared, file.name
        assert not found & set(ROOMS), file.name


def test_the_version_is_one_truth() -> None:
    assert re.search(r'^version = "(.+)"$', MANIFEST, re.M)[1] == transport.VERSION  # type: ignore[index]  # it is there


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_is_written_for_python_3_9(file: Path) -> None:
    assert 'requires-python = ">=3.9"' in MANIFEST
    tree = ast.parse(file.read_text(), feature_version=(3, 9))
    newer = {"slots", "kw_only"}  # of dataclass, from 3.10
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dataclass"]
    assert not {keyword.arg for call in calls for keyword in call.keywords} & newer
    assert not any(isinstance(node, ast.Match) for node in ast.walk(tree))
    assert "from __future__ import annotations" in file.read_text() or file.name == "__init__.py"


def test_the_wheel_carries_the_package_its_types_and_its_needs(tmp_path: Path) -> None:
    copy = shutil.copytree(CLIENT, tmp_path / "client")
    argv = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(copy)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = [archive.read(name).decode() for name in names if name.endswith("METADATA")]
    assert {f"vlaapi_client/{file.name}" for file in FILES} | {"vlaapi_client/py.typed"} <= names
    assert not any(name.startswith(("control_plane", "tests")) for name in names)
    assert "License: Apache-2.0" in metadata
    assert set(re.findall(r"^Requires-Dist: (\w+)[^;\n]*$", metadata, re.M)) == {"httpx", "numpy", "pillow"}
