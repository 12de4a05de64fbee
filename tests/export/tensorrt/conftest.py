"""Graphs and the installed TensorRT-RTX, once per session. Without it these tests fail: `make tensorrt-rtx` brings it."""

from pathlib import Path

import pytest

from export.tensorrt.library import Flavour, Library, open_library
from tests.export.precision.networks import Exported
from tests.export.tensorrt.families import FAMILIES, Family


@pytest.fixture(scope="session")
def rtx() -> Library:
    return open_library(Flavour.RTX)


@pytest.fixture(scope="session", params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    return found


@pytest.fixture(scope="session")
def graphs(family: Family, tmp_path_factory: pytest.TempPathFactory) -> tuple[Exported, ...]:
    folder: Path = tmp_path_factory.mktemp(family.name)
    return family.graphs(folder)
