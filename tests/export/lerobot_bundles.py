"""The tiny LeRobot policies, published once for all tests, and their graphs to be asked directly."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from export.families import open_policy
from export.publish import publish
from tests.export.lerobot_checkpoints import FIXTURES, options


def run_graph(folder: Path, inputs: dict[str, torch.Tensor]) -> NDArray[np.float32]:
    """The chunk that a published bundle's graph answers with."""
    session = onnxruntime.InferenceSession(str(folder / "1" / "model.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(["action"], {name: value.numpy() for name, value in inputs.items()})
    return np.asarray(found)


@pytest.fixture(scope="session")
def lerobot_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `act_bundle` and `smolvla_bundle` are published."""
    return tmp_path_factory.mktemp("lerobot") / "model_repository"


@pytest.fixture(scope="session")
def act_bundle(lerobot_repository: Path) -> Path:
    """The tiny ACT, published: exporting takes seconds, so once for all tests."""
    return _published("act", lerobot_repository)


@pytest.fixture(scope="session")
def smolvla_bundle(lerobot_repository: Path) -> Path:
    """The tiny SmolVLA, published."""
    return _published("smolvla", lerobot_repository)


def _published(family: str, repository: Path) -> Path:
    publish(open_policy(family, options(FIXTURES / f"{family}_tiny")), repository, version=1)
    return repository / f"{family}_tiny"
