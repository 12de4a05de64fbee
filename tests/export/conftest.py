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

from tests.export.serving import serving

_HERE = Path(__file__).resolve().parent
_NEEDS = {
    "tritonclient": [
        "test_lerobot_served.py",
        "test_main.py",
        "test_served_bundle.py",
        "test_served_tiny.py",
        "test_triton_config.py",
    ]
}


def _is_marked(path: Path) -> bool:
    return "pytestmark = pytest.mark.export" in path.read_text(encoding="utf-8")


def _left_out() -> Iterator[str]:
    if importlib.util.find_spec("torch") is None:
        yield from (path.relative_to(_HERE).as_posix() for path in sorted(_HERE.rglob("test_*.py")) if _is_marked(path))
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


@pytest.fixture(scope="session")
def lerobot_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `act_bundle` and `smolvla_bundle` are published."""
    return tmp_path_factory.mktemp("lerobot") / "model_repository"


@pytest.fixture(scope="session")
def act_bundle(lerobot_repository: Path) -> Path:
    """The tiny ACT, published: exporting takes seconds, so once for all tests."""
    return _publish_lerobot("act", lerobot_repository)


@pytest.fixture(scope="session")
def smolvla_bundle(lerobot_repository: Path) -> Path:
    """The tiny SmolVLA, published."""
    return _publish_lerobot("smolvla", lerobot_repository)


def _publish_lerobot(family: str, repository: Path) -> Path:
    from export.families import open_policy  # torch: not in every environment that reads this file
    from export.publish import publish
    from tests.export.lerobot_checkpoints import FIXTURES, options

    publish(open_policy(family, options(FIXTURES / f"{family}_tiny")), repository, version=1)
    return repository / f"{family}_tiny"
