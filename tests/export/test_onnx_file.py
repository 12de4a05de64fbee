"""ONNX files on disk: their weights count in their hash, and one from another age is refused in one line."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.onnx_file import OnnxVersionError, load, save, sha256_of, weight_bytes
from export.onnx_session import open_session

pytestmark = pytest.mark.export


def _model(*, ir_version: int = 10, opset: int = 20, scale: float = 1.0) -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.full((64, 64), scale, dtype=np.float32), "weight")
    given = helper.make_tensor_value_info("given", TensorProto.FLOAT, ["batch", 64])
    made = helper.make_tensor_value_info("made", TensorProto.FLOAT, ["batch", 64])
    graph = helper.make_graph([helper.make_node("MatMul", ["given", "weight"], ["made"])], "graph", [given], [made], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (_model(ir_version=99), "ONNX IR 99, opset 20"),
        (_model(opset=99), "ONNX IR 10, opset 99"),
    ],
    ids=["ir", "opset"],
)
def test_a_file_from_a_later_age_is_refused_in_one_line(model: onnx.ModelProto, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(OnnxVersionError, match=rf"^model\.onnx: {reason}; .*export it again") as refused:
        load(path)
    assert "\n" not in str(refused.value)
    with pytest.raises(OnnxVersionError, match=r"newer than ONNX Runtime .* takes \(up to \d+\): export it again"):
        open_session(path)


def test_what_is_no_onnx_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(OnnxVersionError, match="no such file"):
        load(path)
    path.write_bytes(b"version https://example.invalid/pointer\n" * 9)
    with pytest.raises(OnnxVersionError, match="not an ONNX file, or cut short"):
        load(path)
    with pytest.raises(OnnxVersionError, match="not an ONNX file, or cut short"):
        open_session(path)


def test_the_hash_covers_weights_beside_the_graph(tmp_path: Path) -> None:
    def written(name: str, scale: float) -> str:
        path = tmp_path / name / "model.onnx"
        path.parent.mkdir()
        save(ir.from_proto(_model(scale=scale)), path, is_external=True)
        return sha256_of(path)

    one, same, other = written("one", 1.0), written("same", 1.0), written("other", 2.0)
    assert one == same
    assert one != other
    graphs = [(tmp_path / name / "model.onnx").read_bytes() for name in ("one", "other")]
    assert graphs[0] == graphs[1]  # only the data differ


def test_a_graph_without_its_data_says_which_file_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save(ir.from_proto(_model()), path, is_external=True)
    assert weight_bytes(load(path)) == 64 * 64 * 4
    path.with_name("model.onnx.data").unlink()
    with pytest.raises(OnnxVersionError, match=r"\.data file is missing"):
        open_session(path)
