"""Where a test can run: those of the exporter need torch and ONNX Runtime, which the application's environment does not have."""

import importlib.util
from pathlib import Path

import pytest

_NEEDS = {
    "onnxruntime": ["test_verify.py"],
    "torch": [
        "test_lerobot_served.py",
        "test_onnx.py",
        "test_policies_act.py",
        "test_policies_lerobot.py",
        "test_policies_smolvla.py",
        "test_publish.py",
        "test_policies_tabletop.py",
        "test_main.py",
    ],
    "tritonclient": ["test_lerobot_served.py", "test_main.py", "test_served_bundle.py", "test_triton_config.py"],
}

collect_ignore = [name for module, files in _NEEDS.items() if importlib.util.find_spec(module) is None for name in files]

# The reference checkpoint is too big to commit; it lies beside the repository where the product is developed.
_FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"


@pytest.fixture(scope="session")
def openvla_tiny() -> Path:
    """A tiny checkpoint in OpenVLA's published layout, with tokens and actions of the original code in `reference.json`."""
    folder = _FIXTURES / "openvla_tiny"
    if not folder.is_dir():
        pytest.skip("the reference checkpoint shared/fixtures/openvla_tiny is not here")
    return folder


@pytest.fixture(scope="session")
def lerobot_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with the tiny ACT and the tiny SmolVLA: exporting takes seconds, so once for all tests."""
    from export.families import open_policy  # torch: not in every environment that reads this file
    from export.publish import publish
    from tests.export.lerobot_checkpoints import FIXTURES, options

    repository = tmp_path_factory.mktemp("lerobot") / "model_repository"
    for family in ("act", "smolvla"):
        publish(open_policy(family, options(FIXTURES / f"{family}_tiny")), repository, version=1)
    return repository
