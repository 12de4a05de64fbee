"""The small networks as fixtures, exported once per session; `tests/export/conftest.py` offers them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from export.onnx import Graph, write
from export.parity import Arrays
from tests.export.precision.networks import WORDS, Decoder, Exported, Flow, Loud


def exported(folder: Path, module: torch.nn.Module, inputs: Arrays, outputs: tuple[str, ...]) -> Exported:
    examples = {name: torch.from_numpy(values[:3]) for name, values in inputs.items()}
    module.eval().requires_grad_(requires_grad=False)
    (path,) = write(Graph(file="model.onnx", module=module, examples=examples, outputs=outputs), folder)
    return Exported(path=path, inputs=inputs)


@pytest.fixture(scope="session")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    ids = random.integers(1, WORDS, (64, 6))
    ids[::3, 4:] = 0
    inputs: Arrays = {"image": random.integers(0, 255, (64, 16, 16, 3), dtype=np.uint8), "ids": ids}
    return exported(tmp_path_factory.mktemp("decoder"), Decoder(), inputs, ("tokens", "logprob"))


@pytest.fixture(scope="session")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    torch.manual_seed(0)
    inputs: Arrays = {"state": np.random.default_rng(0).normal(size=(16, 32)).astype(np.float32)}
    return exported(tmp_path_factory.mktemp("loud"), Loud(), inputs, ("action",))


@pytest.fixture(scope="session")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    inputs: Arrays = {
        "noise": random.normal(size=(16, 8)).astype(np.float32),
        "start": random.uniform(0, 1, (16, 1)).astype(np.float32),
    }
    return exported(tmp_path_factory.mktemp("flow"), Flow(), inputs, ("action",))
