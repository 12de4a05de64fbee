"""A Triton of this room's own, with one trivial policy whose misbehaviour is switched by a file."""

from pathlib import Path

import pytest

from deploy.embedded.triton import Triton, installation_in
from tests.conftest import free_port

_CONFIG = """
name: "still"
backend: "python"
max_batch_size: 4
input [ { name: "image" data_type: TYPE_UINT8 dims: [ 8, 8, 3 ] } ]
output [ { name: "action" data_type: TYPE_FP32 dims: [ -1, 7 ] } ]
dynamic_batching { }
"""

_MODEL = """
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        steps = 0 if Path(__file__).with_name("empty").exists() else 2
        return [pb.InferenceResponse([pb.Tensor("action", np.zeros((1, steps, 7), np.float32))]) for _ in requests]
"""


@pytest.fixture
def still_policy(tmp_path: Path) -> Path:
    """A model repository with one policy that always answers two steps of zeros (none, once its folder holds `empty`)."""
    version = tmp_path / "a repository" / "still" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(_MODEL)
    (version.parent / "config.pbtxt").write_text(_CONFIG)
    return version.parent.parent


@pytest.fixture
def still_plan(still_policy: Path, triton_venv: Path, server_folder: Path) -> Triton:
    """How to serve `still_policy`."""
    return Triton(
        installation=installation_in(triton_venv),
        repository=still_policy,
        expected={"still": {"action": (2, 7)}},
        scratch=server_folder / "scratch of a Triton",
        links=server_folder / "links",
        grpc=free_port(),
        http=free_port(),
        metrics=free_port(),
    )
