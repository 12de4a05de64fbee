"""Measured ranges are the real ones, also inside a Scan and in the branch of an If that was not taken."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.onnx_session import open_session
from export.parity import Arrays
from export.precision.ranges import ranges
from tests.export.precision.networks import Exported

pytestmark = pytest.mark.export


def test_ranges_are_the_largest_magnitudes_over_all_examples(loud: Exported, tmp_path: Path) -> None:
    found = ranges(loud.path, loud.inputs, tmp_path)
    model = onnx.load(loud.path)
    inner = [value for node in model.graph.node for value in node.output if value != "action"]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inner)
    answers = open_session(model.SerializeToString()).run(inner, loud.inputs)
    assert inner
    for name, values in zip(inner, answers, strict=True):
        assert found[name] == pytest.approx(float(np.abs(np.asarray(values)).max()), rel=1e-5), name


def test_values_inside_a_scan_are_measured_over_all_its_steps(tmp_path: Path) -> None:
    shapes: dict[str, list[int | None]] = {"state": [1], "given": [], "grown": [1], "kept": [1]}
    shapes |= {"start": [1], "factors": [None], "end": [1], "all": [None, 1]}
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    body = helper.make_graph(
        [helper.make_node("Mul", ["state", "given"], ["grown"]), helper.make_node("Identity", ["grown"], ["kept"])],
        "body",
        [values["state"], values["given"]],
        [values["grown"], values["kept"]],
    )
    node = helper.make_node("Scan", ["start", "factors"], ["end", "all"], body=body, num_scan_inputs=1, scan_output_axes=[0])
    graph = helper.make_graph([node], "graph", [values["start"], values["factors"]], [values["end"], values["all"]])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    inputs: Arrays = {"start": np.ones(1, dtype=np.float32), "factors": np.array([-3, 5, -0.1], dtype=np.float32)}
    found = ranges(path, inputs, tmp_path)  # one example: the first axis of `factors` is time
    assert found["grown"] == pytest.approx(15.0)  # 1 × -3 × 5, before the last factor shrinks it
