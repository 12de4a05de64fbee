"""An ONNX file's answers to example inputs, on one thread of the CPU, as the Python backend computes them.

Used by `verify`. It judges nothing.
"""

from pathlib import Path

import numpy as np
import onnxruntime

from export.contract.facts import Output
from export.parity import Arrays


def answers(model: Path, inputs: Arrays, outputs: tuple[Output, ...], *, batch: int) -> Arrays:
    """The graph's answers to all examples, `batch` at a time, on one thread of the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [one.tensor for one in outputs]
    count = len(next(iter(inputs.values())))
    parts = [
        session.run(names, {name: values[start : start + batch] for name, values in inputs.items()})
        for start in range(0, count, batch)
    ]
    return {name: np.concatenate([part[index] for part in parts]) for index, name in enumerate(names)}
