"""Refuses a plan that is not in the precision that was asked for: code written for older TensorRT silently builds float32.

Three looks, each at what can be known: the products in the ONNX file, the products in the network that TensorRT parsed from it,
and the bytes of the plan. Where a GPU can open the plan, its own inspector is asked too.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import onnx_ir as ir

from export.precision.steps import KIND_OF, Kind
from export.tensorrt.library import EngineError, Library

OVERHEAD_BYTES = 16 * 2**20  # kernels and tables; up to 12 MB were seen

_NARROW = frozenset({"bfloat16", "float16", "float8e4m3fn"})
_ONNX_TYPES = {ir.DataType.FLOAT: "fp32", ir.DataType.FLOAT16: "fp16", ir.DataType.BFLOAT16: "bf16"}
_NETWORK_TYPES = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "FP8": "fp8", "INT8": "int8"}
_NETWORK_PRODUCTS = frozenset({"CONVOLUTION", "DECONVOLUTION", "EINSUM", "MATRIX_MULTIPLY"})
# As the inspector spells formats: "Row major linear FP16 format", "Channel major BFloat16 format".
_INSPECTED = {"fp8": r"FP8", "bf16": r"BF(loat)?16", "fp16": r"FP16|Half", "fp32": r"FP32|Float(?!1|8)", "int8": r"Int8"}


def products_of(model: Path) -> dict[str, int]:
    """How many products of an ONNX file work in each type, in bodies too. One that reads 8 bits counts as fp8."""
    counts: Counter[str] = Counter()
    for node in ir.load(model).graph.all_nodes():
        if KIND_OF.get(node.op_type) is Kind.PRODUCT:
            kind = _ONNX_TYPES.get(node.outputs[0].dtype, "other")
            counts["fp8" if _reads_eighths(node) else kind] += 1
    return dict(sorted(counts.items()))


def _reads_eighths(node: ir.Node) -> bool:
    maker = node.inputs[0].producer()
    return maker is not None and maker.op_type == "DequantizeLinear"


def refuse_other_precision(model: Path, precision: str) -> dict[str, int]:
    """The products of the file. Raises EngineError where it has some and none is in `precision`."""
    found = products_of(model)
    if found and precision not in found:
        raise EngineError(
            f"{model.name}: asked for {precision}, but its products are {_listed(found)}: TensorRT takes precision from the "
            f"graph, so this would be no {precision} plan; write the {precision} graph first"
        )
    return found


def layers_of(network: Any) -> dict[str, int]:
    """How many layers of a parsed network give each type; products by themselves, under `products.<type>`."""
    counts: Counter[str] = Counter()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        kind = _NETWORK_TYPES.get(layer.get_output(0).dtype.name) if layer.num_outputs else None
        if kind:
            counts[kind] += 1
            if layer.type.name in _NETWORK_PRODUCTS:
                counts[f"products.{kind}"] += 1
    return dict(sorted(counts.items()))


def refuse_lost_precision(expected: dict[str, int], layers: dict[str, int]) -> None:
    """Raises EngineError where the parsed network has fewer low products than the file: a parser or a flag changed them."""
    for stored in ("bf16", "fp16"):
        wanted = expected.get(stored, 0) + (expected.get("fp8", 0) if stored == "bf16" else 0)
        found = layers.get(f"products.{stored}", 0)
        if found < wanted:
            raise EngineError(
                f"the graph has {wanted} products in {stored}, the network parsed from it has {found}: "
                f"it is not strongly typed, so the plan would be float32"
            )


def refuse_wide(plan_bytes: int, weights: dict[str, int], *, ratio: float | None = None) -> None:
    """Raises EngineError where a plan is too large to hold the graph's weights, which are bytes by type, as they are typed.

    The limit lies half way to the next wider type of every narrow weight; `ratio` sets it by hand, as a multiple of all weights.
    Where weights weigh less than kernels may, the size says nothing, and the products of the network must do.
    """
    typed = sum(weights.values())
    narrow = sum(size for kind, size in weights.items() if kind in _NARROW)
    if ratio is None and narrow < 2 * OVERHEAD_BYTES:
        return
    limit = (typed + narrow / 2 if ratio is None else typed * ratio) + OVERHEAD_BYTES
    if plan_bytes > limit:
        sizes = f"{plan_bytes / 1e6:,.0f} MB for {typed / 1e6:,.0f} MB of typed weights (limit {limit / 1e6:,.0f} MB)"
        raise EngineError(
            f"the plan has {sizes}: they are held in a wider type, or twice; if that is meant, give --max-size-ratio"
        )


def inspected_layers(text: str) -> dict[str, int]:
    """How many layers of a built plan give each type, from the inspector's JSON; one that reads 8 bits counts as fp8.

    Layers without a known type are left out.
    """
    counts: Counter[str] = Counter()
    for layer in json.loads(text).get("Layers", []):
        if isinstance(layer, dict):
            kinds = ["fp8"] if "fp8" in _kinds(layer, "Inputs") else _kinds(layer, "Outputs")
            counts.update(kinds[:1])
    return dict(sorted(counts.items()))


def _kinds(layer: dict[str, Any], side: str) -> list[str]:
    formats = [str(one.get("Format/Datatype", "")) for one in layer.get(side, [])]
    return [kind for kind, pattern in _INSPECTED.items() if any(re.search(pattern, one) for one in formats)]


def inspect(library: Library, plan: memoryview) -> dict[str, int]:
    """Opens the plan on this machine's GPU and counts its layers by type. Raises EngineError where it does not open."""
    trt = library.trt
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineError("the plan was built and does not open on this machine's GPU: its driver or library is another")
    return inspected_layers(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))


def refuse_inspected(layers: dict[str, int], precision: str) -> None:
    """Raises EngineError where an opened plan has no layer in the precision asked for."""
    if layers and precision not in layers:
        raise EngineError(f"the built plan has no {precision} layer, but {_listed(layers)}")


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "none"
