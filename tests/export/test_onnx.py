"""The exported file: named tensors, a free batch size, the same bytes each time, nothing of this machine in it."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch._higher_order_ops.scan import scan

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


class _Repeated(torch.nn.Module):
    """Adds a projection of itself to a state, four times, in a Scan."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(3, 3).requires_grad_(requires_grad=False)

    def forward(self, offset: torch.Tensor) -> torch.Tensor:
        def step(state: list[torch.Tensor], size: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
            return [state[0] + self.inner(state[0]) * size], [state[0].sum(-1)]

        _, sums = scan(step, [offset], torch.arange(4, dtype=torch.float32))
        return sums[0].movedim(0, 1)


def test_traces_leave_the_body_of_a_scan_too(tmp_path: Path) -> None:
    graph = Graph(file="model.onnx", module=_Repeated(), examples={"offset": torch.ones(2, 3)}, outputs=("sums",))
    write(graph, tmp_path)
    (node,) = (node for node in onnx.load(tmp_path / "model.onnx").graph.node if node.op_type == "Scan")
    body = next(attribute.g for attribute in node.attribute if attribute.name == "body")
    assert len(body.node) > 2
    assert not any(part.metadata_props or part.doc_string for part in (*body.node, *body.value_info, *body.input))
    assert __file__.encode() not in (tmp_path / "model.onnx").read_bytes()


def test_weights_lie_beside_the_graph_on_request_and_move_with_it(tmp_path: Path) -> None:
    large = Graph(file="large.onnx", module=_Large(), examples={"offset": torch.ones(2, 64)}, outputs=("action",))
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    files = write(large, first, is_external=True)
    contents = [file.read_bytes() for file in files]
    assert [file.name for file in files] == ["large.onnx", "large.onnx.data"]
    assert len(contents[0]) < 8_000 < len(contents[1])

    first.rename(second)
    session = onnxruntime.InferenceSession(str(second / "large.onnx"), providers=["CPUExecutionProvider"])
    offset = np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32)
    expected = large.module(torch.from_numpy(offset)).detach().numpy()
    assert np.allclose(session.run(["action"], {"offset": offset})[0], expected, atol=1e-5)

    first.mkdir()
    assert [file.read_bytes() for file in write(large, first, is_external=True)] == contents


class _Large(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.inner = torch.nn.Linear(64, 64)

    def forward(self, offset: torch.Tensor) -> torch.Tensor:
        return self.inner(offset)
