"""Graphs parse and build in every precision, without a GPU; what does not parse is told in one line.

The shipped policy is built here; every other family's own tests build the bundle that they publish.
"""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from export import onnx_file
from export.precision.ranges import ranges
from export.precision.rewrite import Precision
from export.precision.source import read
from export.precision.typed import Recipe, write
from export.tensorrt.build import Built, Order, build
from export.tensorrt.library import Device, EngineError, Library
from export.tensorrt.profiles import Axes, Range, profiles
from tests.export.precision.networks import Exported
from tests.export.tensorrt.building import build_plans, plan_of, stored

pytestmark = pytest.mark.export
BUNDLE = Path("model_repository/tabletop")
BATCH = {"batch": Range(min=1, opt=2, max=4)}


def built(library: Library, model: Path, precision: str) -> Built:
    shapes = profiles(model, Axes(ranges=BATCH))
    device = Device(capability="8.9", gpu=None)
    order = Order(model=model, precision=precision, device=device, profiles=shapes, workspace_bytes=1 << 30)
    return build(library, order, lambda *_: None)


@pytest.mark.parametrize("precision", list(Precision))
def test_the_shipped_policy_builds(precision: Precision, tmp_path: Path) -> None:
    added = build_plans(BUNDLE, tmp_path / "plans", precision)
    assert plan_of(added).precision_layers[f"products.{stored(precision)}"] == 21
    assert all(one.max_abs_difference < 0.1 for one in added.agreements)


@pytest.mark.parametrize("precision", list(Precision))
def test_a_scan_with_a_carried_buffer_builds(rtx: Library, decoder: Exported, precision: Precision, tmp_path: Path) -> None:
    found = ranges(decoder.path, decoder.inputs, tmp_path)
    write(decoder.path, tmp_path / "model.onnx", Recipe(precision=precision, ranges=found))
    layers = built(rtx, tmp_path / "model.onnx", precision.value).layers
    assert layers["products.fp32"] == 4
    assert layers["products.fp16" if precision is Precision.FP16 else "products.bf16"] == 13


def test_progress_is_told_by_phase(rtx: Library, decoder: Exported, tmp_path: Path) -> None:
    write(decoder.path, tmp_path / "model.onnx", Recipe(precision=Precision.BF16))
    shapes = profiles(tmp_path / "model.onnx", Axes(ranges=BATCH))
    device = Device(capability="8.9", gpu=None)
    order = Order(model=tmp_path / "model.onnx", precision="bf16", device=device, profiles=shapes, workspace_bytes=1 << 30)
    told: dict[str, list[int]] = {}
    build(rtx, order, lambda phase, done, total: told.setdefault(phase, []).append(done - total))
    assert len(told) > 3
    assert {steps[-1] for steps in told.values()} == {0}


def test_a_timing_cache_is_refused_where_nothing_is_timed(rtx: Library, tmp_path: Path) -> None:
    order = Order(
        model=BUNDLE / "1" / "model.onnx",
        precision="fp32",
        device=Device(capability="8.9", gpu=None),
        profiles=(),
        workspace_bytes=1 << 30,
        timing_cache=tmp_path / "rtx.cache",
    )
    with pytest.raises(EngineError, match="--timing-cache is for TensorRT"):
        build(rtx, order, lambda *_: None)


def test_what_does_not_parse_names_the_node_in_one_line(rtx: Library, tmp_path: Path) -> None:
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [4, "batch"])
    made = helper.make_tensor_value_info("made", TensorProto.FLOAT, ["batch", 4])
    nodes = [
        helper.make_node("Transpose", ["image"], ["turned"], name="turn"),  # of bytes: what `precision.source` changes
        helper.make_node("Cast", ["turned"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["numbers", "weight"], ["made"]),
    ]
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [4, 4], [1.0] * 16)
    graph = helper.make_graph(nodes, "g", [image], [made], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "model.onnx")
    with pytest.raises(EngineError, match=r"^model\.onnx: TensorRT cannot parse it: node turn \(Transpose\): .*UInt8") as refused:
        built(rtx, tmp_path / "model.onnx", "fp32")
    assert "\n" not in str(refused.value)
    widened = tmp_path / "widened.onnx"
    onnx_file.save(read(tmp_path / "model.onnx"), widened)
    assert built(rtx, widened, "fp32").layers["products.fp32"] == 1
