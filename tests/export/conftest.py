"""Where a test can run, and what the exporter's tests share.

A file marked `export` needs torch and ONNX Runtime, which the application's environment does not have: it is left out there. The
marked tests run in the export environment alone, without the servers of `tests/conftest.py`.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from export.benchmark.own_triton import serving
from export.python_backend.tensorrt_engine import visible_gpu

_HERE = Path(__file__).resolve().parent
_EXPORT_ROOMS = ("precision", "tensorrt")  # their fixtures need torch too
_NEEDS = {
    "tritonclient": [
        *(f"benchmark/test_{module}.py" for module in ("commands", "counters", "load", "requests", "run")),
        *(f"test_{module}.py" for module in ("main", "policies_lerobot_served", "publish", "served_bundle", "served_tiny")),
        *(f"test_triton_config{part}.py" for part in ("", "_commands", "_loads", "_refusals")),
    ],
    "matplotlib": ["benchmark/test_plot.py", "benchmark/test_commands.py", "test_main.py"],
    "asyncpg": ["benchmark/test_run.py", "test_triton_config_loads.py"],  # the application's environment
}


def _is_marked(path: Path) -> bool:
    return "pytestmark = pytest.mark.export" in path.read_text(encoding="utf-8")


def _left_out() -> Iterator[str]:
    if importlib.util.find_spec("torch") is None:
        yield from (path.relative_to(_HERE).as_posix() for path in sorted(_HERE.rglob("test_*.py")) if _is_marked(path))
        yield from _EXPORT_ROOMS
    yield from (name for module, files in _NEEDS.items() if importlib.util.find_spec(module) is None for name in files)


collect_ignore = list(_left_out())

# The reference checkpoint is too big to commit; it lies beside the repository where the product is developed.
_FIXTURES = _HERE.parents[2] / "shared" / "fixtures"


@pytest.fixture(scope="session")
def openvla_tiny() -> Path:
    """A tiny checkpoint in OpenVLA's published layout, with tokens and actions of the original code in `reference.json`."""
    folder = _FIXTURES / "openvla_tiny"
    if not folder.is_dir():
        pytest.skip("the reference checkpoint shared/fixtures/openvla_tiny is not here")
    return folder


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], str]]:
    """Starts the real Triton over a model repository and gives its gRPC address; stopped after the module's tests."""
    venv = Path(os.environ.get("VLA_TRITON_VENV", _HERE.parents[1] / ".venv-triton"))
    with ExitStack() as stack:
        yield lambda repository: stack.enter_context(serving(repository, venv, tmp_path_factory.mktemp("triton")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is marked `gpu` is skipped, and says so, where no GPU is visible."""
    if visible_gpu() is None:
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU is visible here"))


if importlib.util.find_spec("torch"):
    from tests.export.lerobot_bundles import act_bundle, lerobot_repository, smolvla_bundle  # noqa: F401 -- as below
    from tests.export.precision.fixtures import decoder, flow, loud  # noqa: F401 -- fixtures of two rooms, exported once
