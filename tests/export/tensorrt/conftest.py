"""The installed TensorRT-RTX. Without it these tests fail, they are not skipped: `make tensorrt-rtx` brings it."""

import pytest

from export.tensorrt.library import Flavour, Library, open_library


@pytest.fixture(scope="session")
def rtx() -> Library:
    return open_library(Flavour.RTX)
