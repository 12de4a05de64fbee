"""Opens an ONNX file with ONNX Runtime on one thread of the CPU; a file from another age becomes one readable line.

Used where answers are compared. It knows no policy.
"""

import re
from pathlib import Path

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from export.onnx_file import OnnxVersionError

_LIMITS = re.compile(r"max supported IR version: (\d+)|is till opset (\d+)")


def open_session(model: Path | bytes, *, is_optimised: bool = True) -> onnxruntime.InferenceSession:
    """A session; `is_optimised` false runs every node as written. Raises OnnxVersionError."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not is_optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except (runtime.Fail, runtime.InvalidProtobuf, runtime.NoSuchFile) as error:
        name = model.name if isinstance(model, Path) else "the graph"
        raise OnnxVersionError(f"{name}: {_told(str(error))}") from None


def _told(message: str) -> str:
    limit = _LIMITS.search(message)
    reader = f"ONNX Runtime {onnxruntime.__version__}"
    if limit and limit[1]:
        return f"its ONNX IR is newer than {reader} takes (up to {limit[1]}): export it again with this vlaapi"
    if limit:
        return f"its opset is newer than {reader} takes (up to {limit[2]}): export it again with this vlaapi"
    if "Protobuf parsing failed" in message:
        return "not an ONNX file, or cut short: export it again"
    if "doesn't exist" in message or "external" in message.lower():
        return "the graph or its .data file is missing: copy both, or export it again"
    raise OnnxVersionError(f"{reader} refuses it: {message.splitlines()[0]}")
