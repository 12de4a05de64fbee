"""A plan in another precision than asked for is refused: by its graph, by its network, by its size, by its layers."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.precision.rewrite import Precision
from export.precision.typed import Recipe, weight_types, write
from export.tensorrt.build import Order, build
from export.tensorrt.check import (
    inspected_layers,
    products_of,
    refuse_inspected,
    refuse_lost_precision,
    refuse_other_precision,
    refuse_wide,
)
from export.tensorrt.library import Device, EngineError, Flavour, open_library
from export.tensorrt.profiles import Axes, Range, profiles

pytestmark = pytest.mark.export
WIDTH, LAYERS = 2048, 6  # 101 MB in float32: enough that a plan is its weights


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 graph of large products."""
    path = tmp_path_factory.mktemp("wide") / "model.onnx"
    matrix = np.random.default_rng(0).normal(0, 0.02, (WIDTH, WIDTH)).astype(np.float32)
    weights = [numpy_helper.from_array(np.roll(matrix, index), f"weight{index}") for index in range(LAYERS)]
    names = ["given", *(f"hidden{index}" for index in range(LAYERS - 1)), "made"]
    nodes = [helper.make_node("MatMul", [names[index], f"weight{index}"], [names[index + 1]]) for index in range(LAYERS)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in ("given", "made")]
    model = helper.make_model(
        helper.make_graph(nodes, "graph", ends[:1], ends[1:], weights),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def _built(model: Path, precision: str) -> int:
    shapes = profiles(model, Axes(ranges={"batch": Range(min=1, opt=1, max=2)}))
    device = Device(capability="8.9", gpu=None)
    order = Order(model=model, precision=precision, device=device, profiles=shapes, workspace_bytes=1 << 30)
    return len(build(open_library(Flavour.RTX), order, lambda *_: None).plan)


def test_a_plan_is_as_large_as_its_typed_weights_and_a_wider_one_is_refused(wide: Path, tmp_path: Path) -> None:
    write(wide, tmp_path / "model.onnx", Recipe(precision=Precision.BF16))
    weights = weight_types(tmp_path / "model.onnx")
    assert _built(tmp_path / "model.onnx", "bf16") < 1.05 * sum(weights.values())
    # What flag code for TensorRT 10 does on 11: it builds the float32 graph and calls the plan bf16.
    silently_wide = _built(wide, "fp32")
    with pytest.raises(EngineError, match=r"the plan has 101 MB for 59 MB of typed weights.* in a wider type, or twice"):
        refuse_wide(silently_wide, weights)


def test_a_graph_whose_products_are_float32_is_no_bf16_graph(wide: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="asked for bf16, but its products are 6 fp32: TensorRT takes precision from the"):
        _built(wide, "bf16")

    # Narrow weights alone are no narrow products: each is widened again before it is used.
    weight = helper.make_tensor("weight", TensorProto.BFLOAT16, [4, 4], np.eye(4).ravel())
    nodes = [
        helper.make_node("Cast", ["weight"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "wide"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], [weight])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10), path)
    with pytest.raises(EngineError, match="its products are 1 fp32"):
        refuse_other_precision(path, "bf16")


def test_products_are_counted_by_type(wide: Path, tmp_path: Path) -> None:
    assert products_of(wide) == {"fp32": LAYERS}
    write(wide, tmp_path / "model.onnx", Recipe(precision=Precision.FP16, ranges={"given": 1.0}))
    assert products_of(tmp_path / "model.onnx") == {"fp16": LAYERS - 1, "fp32": 1}


def test_a_network_that_lost_its_types_is_refused() -> None:
    refuse_lost_precision({"bf16": 9, "fp8": 16, "fp32": 4}, {"products.bf16": 25, "products.fp32": 4})
    with pytest.raises(EngineError, match="25 products in bf16, the network parsed from it has 0: it is not strongly typed"):
        refuse_lost_precision({"bf16": 25, "fp32": 4}, {"products.fp32": 29})


def test_a_small_plan_may_be_mostly_kernels() -> None:
    refuse_wide(60_000_000, {"bfloat16": 30_000_000, "float": 50_000})


def test_the_limit_lies_half_way_to_the_next_wider_type() -> None:
    eighths = {"float8e4m3fn": 7_000_000_000, "float": 500_000_000}
    refuse_wide(7_600_000_000, eighths)
    with pytest.raises(EngineError, match="--max-size-ratio"):
        refuse_wide(14_500_000_000, eighths)  # bf16 where fp8 was meant
    refuse_wide(14_500_000_000, eighths, ratio=2.0)


def test_the_inspector_counts_layers_by_their_first_output() -> None:
    text = """{"Layers": [
        {"Name": "a", "Outputs": [{"Name": "a", "Format/Datatype": "Row major linear BFloat16 format"}]},
        {"Name": "b", "Outputs": [{"Name": "b", "Format/Datatype": "Row major linear FP16 format"}]},
        {"Name": "c", "Outputs": [{"Name": "c", "Format/Datatype": "Row major linear FP32"}]},
        {"Name": "d", "Inputs": [{"Format/Datatype": "Row major linear FP16 format"}],
         "Outputs": [{"Name": "d", "Format/Datatype": "Int64"}]}, "e"], "Bindings": ["x"]}"""
    assert inspected_layers(text) == {"bf16": 1, "fp16": 1, "fp32": 1}
    fused = """{"Layers": [{"Name": "f", "Inputs": [{"Format/Datatype": "Row major linear FP8 format"}],
        "Outputs": [{"Format/Datatype": "Row major linear BFloat16 format"}]}]}"""
    assert inspected_layers(fused) == {"fp8": 1}
    refuse_inspected(inspected_layers(text), "bf16")
    with pytest.raises(EngineError, match="no fp8 layer, but 1 bf16, 1 fp16, 1 fp32"):
        refuse_inspected(inspected_layers(text), "fp8")
