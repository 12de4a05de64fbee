"""The exported file: named tensors, a free batch size, the same bytes each time, nothing of this machine in it."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export.onnx import Graph, write

pytestmark = pytest.mark.export


class _Scaled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(3, 2)

    def forward(self, image: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        return self.inner(image.to(torch.float32)) + offset


@pytest.fixture
def graph() -> Graph:
    torch.manual_seed(0)
    examples = {"image": torch.ones(2, 3, dtype=torch.uint8), "offset": torch.zeros(2, 2)}
    return Graph(file="model.onnx", module=_Scaled(), examples=examples, outputs=("action",))


def test_it_answers_any_batch_size_by_name(graph: Graph, tmp_path: Path) -> None:
    write(graph, tmp_path)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for batch in (1, 2, 5):
        inputs = {"image": np.full((batch, 3), 7, dtype=np.uint8), "offset": np.ones((batch, 2), dtype=np.float32)}
        (found,) = session.run(["action"], inputs)
        expected = graph.module(**{name: torch.from_numpy(value) for name, value in inputs.items()}).detach().numpy()
        assert np.allclose(found, expected, atol=1e-5)


def test_the_same_module_gives_the_same_bytes_without_traces(graph: Graph, tmp_path: Path) -> None:
    write(graph, tmp_path)
    content = (tmp_path / "model.onnx").read_bytes()
    write(graph, tmp_path)
    assert content == (tmp_path / "model.onnx").read_bytes()
    assert __file__.encode() not in content
    assert not any(node.metadata_props or node.doc_string for node in onnx.load(tmp_path / "model.onnx").graph.node)
