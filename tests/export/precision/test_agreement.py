"""Drift between two graphs: differences for numbers, shares for ids, and NaN is never hidden."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.parity import Arrays
from export.precision.agreement import Drift, drift

pytestmark = pytest.mark.export


def _graph(path: Path, offset: float, first: int) -> Path:
    weights = [numpy_helper.from_array(np.full(1, offset, dtype=np.float32), "offset")]
    weights.append(numpy_helper.from_array(np.array([first, 2], dtype=np.int64), "shift"))
    nodes = [helper.make_node("Add", ["number", "offset"], ["moved"]), helper.make_node("Add", ["ids", "shift"], ["tokens"])]
    kinds = {"number": TensorProto.FLOAT, "moved": TensorProto.FLOAT, "ids": TensorProto.INT64, "tokens": TensorProto.INT64}
    values = {name: helper.make_tensor_value_info(name, kind, ["batch", 2]) for name, kind in kinds.items()}
    graph = helper.make_graph(nodes, "g", [values["number"], values["ids"]], [values["moved"], values["tokens"]], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_drift_is_per_output_over_all_examples(tmp_path: Path) -> None:
    inputs: Arrays = {"number": np.zeros((5, 2), dtype=np.float32), "ids": np.zeros((5, 2), dtype=np.int64)}
    moved, tokens = drift(_graph(tmp_path / "a.onnx", 0.0, 1), _graph(tmp_path / "b.onnx", 0.25, 3), inputs, batch=2)
    assert moved == Drift(tensor="moved", max_abs_difference=0.25, equal=None, is_finite=True)
    assert tokens == Drift(tensor="tokens", max_abs_difference=2.0, equal=0.5, is_finite=True)


def test_a_nan_is_told(tmp_path: Path) -> None:
    inputs: Arrays = {"number": np.zeros((1, 2), dtype=np.float32), "ids": np.zeros((1, 2), dtype=np.int64)}
    moved, _ = drift(_graph(tmp_path / "a.onnx", 0.0, 1), _graph(tmp_path / "b.onnx", float("nan"), 1), inputs)
    assert not moved.is_finite
