"""A fixed computation of about two milliseconds: how fast this machine is at what policies are made of, whatever the policy.

A policy's own time divided by it holds on any machine, and grows when the graph itself gets slower: a ratio of the policy with
itself would not. Four layers of 256×384 by 384×384 with ReLU, in ONNX Runtime on one thread. It knows no
policy; `yardstick` runs it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROWS, WIDTH, LAYERS = 256, 384, 4
_OPSET, _IR_VERSION = 17, 9


def reference() -> Callable[[], list[np.ndarray[Any, Any]]]:
    """Ready to run. Changing what it computes makes every recorded baseline worthless."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(_graph(), options, providers=["CPUExecutionProvider"])
    inputs = {"x0": np.random.default_rng(31).standard_normal((ROWS, WIDTH), dtype=np.float32)}
    return lambda: [np.asarray(found) for found in session.run(None, inputs)]


def _graph() -> bytes:
    random = np.random.default_rng(37)
    weights = [random.standard_normal((WIDTH, WIDTH), dtype=np.float32) / np.float32(WIDTH**0.5) for _ in range(LAYERS)]
    nodes = []
    for layer in range(LAYERS):
        nodes.append(helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"y{layer}"]))
        nodes.append(helper.make_node("Relu", [f"y{layer}"], [f"x{layer + 1}"]))
    graph = helper.make_graph(
        nodes,
        "reference",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [ROWS, WIDTH])],
        [helper.make_tensor_value_info(f"x{LAYERS}", TensorProto.FLOAT, [ROWS, WIDTH])],
        [numpy_helper.from_array(weight, f"w{layer}") for layer, weight in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    found: bytes = model.SerializeToString()
    return found
