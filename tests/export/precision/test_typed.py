"""A lowered graph: low where the work is, float32 where exactness is needed, the same numbers for real and played."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.onnx_session import open_session
from export.precision.agreement import answers, drift
from export.precision.ranges import ranges
from export.precision.rewrite import Precision
from export.precision.steps import KIND_OF, Kind, PrecisionError
from export.precision.typed import Recipe, Typed, weight_types, write
from tests.export.precision.networks import Exported

pytestmark = pytest.mark.export
LOW = {Precision.BF16: TensorProto.BFLOAT16, Precision.FP16: TensorProto.FLOAT16, Precision.FP8: TensorProto.BFLOAT16}
EXACT = ("Softmax", "LayerNormalization", "LogSoftmax", "ReduceMean", "Pow", "Sqrt", "Reciprocal", "Sin", "Cos", "ArgMax")


def lowered(source: Exported, folder: Path, precision: Precision, *, is_played: bool = False, keep: tuple[str, ...] = ()) -> Path:
    described(source, folder, precision, is_played=is_played, keep=keep)
    return folder / "low.onnx"


def described(
    source: Exported, folder: Path, precision: Precision, *, is_played: bool = False, keep: tuple[str, ...] = ()
) -> Typed:
    found = ranges(source.path, source.inputs, folder) if precision is not Precision.BF16 else {}
    recipe = Recipe(precision=precision, keep=keep, ranges=found)
    return write(source.path, folder / "low.onnx", recipe, is_played=is_played)


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes_of(attribute.g)


def types_of(path: Path) -> dict[str, int]:
    """The element type of every value, as ONNX's own inference sees it: not as the writer noted it."""
    model = onnx.load(path)
    del model.graph.value_info[:]
    for node in nodes_of(model.graph):
        for attribute in node.attribute:
            del attribute.g.value_info[:]
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    graphs = [model.graph, *(a.g for node in nodes_of(model.graph) for a in node.attribute if a.HasField("g"))]
    found = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for graph in graphs:
        for value in (*graph.value_info, *graph.input, *graph.output):
            found[value.name] = value.type.tensor_type.elem_type
    return found


@pytest.mark.parametrize("precision", list(Precision))
def test_inputs_and_outputs_keep_names_types_and_shapes(decoder: Exported, precision: Precision, tmp_path: Path) -> None:
    before, after = onnx.load(decoder.path).graph, onnx.load(lowered(decoder, tmp_path, precision)).graph
    assert list(before.input) == list(after.input)
    assert list(before.output) == list(after.output)


@pytest.mark.parametrize("precision", list(Precision))
def test_what_needs_exactness_reads_and_gives_float32_in_bodies_too(
    decoder: Exported, precision: Precision, tmp_path: Path
) -> None:
    path = lowered(decoder, tmp_path, precision)
    types = types_of(path)
    nodes = list(nodes_of(onnx.load(path).graph))
    found = {node.op_type for node in nodes} & set(EXACT)
    assert found == set(EXACT)
    for node in nodes:
        if node.op_type in EXACT:
            touched = {types[name] for name in (*node.input, *node.output) if name}
            assert touched <= {TensorProto.FLOAT, TensorProto.INT64}, node.name


@pytest.mark.parametrize("precision", list(Precision))
def test_products_are_low_except_heads_and_angles(decoder: Exported, precision: Precision, tmp_path: Path) -> None:
    path = lowered(decoder, tmp_path, precision)
    types = types_of(path)
    products = [node for node in nodes_of(onnx.load(path).graph) if KIND_OF.get(node.op_type) is Kind.PRODUCT]
    exact = [node for node in products if types[node.output[0]] == TensorProto.FLOAT]
    assert {types[node.output[0]] for node in products} == {TensorProto.FLOAT, LOW[precision]}
    assert [name for node in exact for name in node.input if "head" in name] == ["head.weight", "head.weight"]
    assert len(exact) == 4  # two heads, before the Scan and in it; two products of positions and frequencies
    assert len(products) == 17


def test_the_carried_buffer_is_low_and_what_is_collected_is_not(decoder: Exported, tmp_path: Path) -> None:
    path = lowered(decoder, tmp_path, Precision.BF16)
    (node,) = (node for node in onnx.load(path).graph.node if node.op_type == "Scan")
    body = next(attribute.g for attribute in node.attribute if attribute.name == "body")
    kinds = [value.type.tensor_type.elem_type for value in body.output]
    assert kinds == [TensorProto.BFLOAT16, TensorProto.INT64, TensorProto.INT64, TensorProto.FLOAT]


@pytest.mark.parametrize("precision", list(Precision))
def test_weights_are_stored_once_in_the_type_of_their_readers(decoder: Exported, precision: Precision, tmp_path: Path) -> None:
    wrote = described(decoder, tmp_path, precision)
    names = [tensor.name for tensor in onnx.load(tmp_path / "low.onnx").graph.initializer]
    assert sum("qkv" in name and "scale" not in name for name in names) == 1
    assert sum(weight_types(tmp_path / "low.onnx").values()) == wrote.weight_bytes
    whole = sum(weight_types(decoder.path).values())
    assert wrote.weight_bytes < whole * (0.75 if precision is Precision.FP8 else 0.8)


def test_float16_answers_alike_for_real_and_played(decoder: Exported, tmp_path: Path) -> None:
    real, played = tmp_path / "real", tmp_path / "played"
    for folder in (real, played):
        folder.mkdir()
        tokens, logprob = drift(
            decoder.path, lowered(decoder, folder, Precision.FP16, is_played=folder is played), decoder.inputs
        )
        assert tokens.equal == 1.0
        assert logprob.max_abs_difference < 5e-3
        assert logprob.is_finite


@pytest.mark.parametrize(("precision", "agreement", "difference"), [(Precision.BF16, 0.9, 0.1), (Precision.FP8, 0.7, 0.5)])
def test_played_low_precision_strays_a_little_and_really_rounds(
    decoder: Exported, precision: Precision, agreement: float, difference: float, tmp_path: Path
) -> None:
    expected = answers(decoder.path, decoder.inputs, batch=64)
    found = answers(lowered(decoder, tmp_path, precision, is_played=True), decoder.inputs, batch=64)
    is_same = (expected["tokens"] == found["tokens"]).all(1)  # after another token nothing can be compared
    assert np.mean(expected["tokens"] == found["tokens"]) >= agreement
    assert 1e-3 < np.abs(expected["logprob"].astype(float) - found["logprob"].astype(float))[is_same].max() < difference


def test_the_same_recipe_gives_the_same_bytes(decoder: Exported, tmp_path: Path) -> None:
    contents = [lowered(decoder, tmp_path, Precision.FP8).read_bytes() for _ in range(2)]
    assert contents[0] == contents[1]


def test_bfloat16_products_get_the_opset_that_has_them(decoder: Exported, tmp_path: Path) -> None:
    assert onnx.load(lowered(decoder, tmp_path, Precision.BF16)).opset_import[0].version == 22
    assert onnx.load(lowered(decoder, tmp_path, Precision.FP16)).opset_import[0].version == 20


def test_what_overflows_float16_on_the_examples_stays_float32(loud: Exported, tmp_path: Path) -> None:
    careless = tmp_path / "careless.onnx"
    write(loud.path, careless, Recipe(precision=Precision.FP16, ranges={"nothing": 1.0}), is_played=True)
    (action,) = drift(loud.path, careless, loud.inputs)
    assert not action.is_finite

    wrote = described(loud, tmp_path, Precision.FP16, is_played=True)
    (action,) = drift(loud.path, tmp_path / "low.onnx", loud.inputs)
    assert wrote.overflowing
    assert wrote.products == {"fp16": 1, "fp32": 3}
    assert action.max_abs_difference < 1e-3


def test_numbers_that_float16_lacks_become_its_largest_never_infinite(tmp_path: Path) -> None:
    mask = numpy_helper.from_array(np.full(1, -3.4e38, dtype=np.float32), "mask")
    weight = numpy_helper.from_array(np.ones((4, 4), dtype=np.float32), "weight")
    nodes = [
        helper.make_node("MatMul", ["given", "weight"], ["scores"]),
        helper.make_node("Where", ["is_seen", "scores", "mask"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["shares"]),
        helper.make_node("MatMul", ["shares", "weight"], ["mixed"]),
        helper.make_node("MatMul", ["mixed", "weight"], ["made"]),
    ]
    source = _graph(tmp_path, nodes, [_value("given"), _value("is_seen", TensorProto.BOOL)], [mask, weight])
    write(source, tmp_path / "low.onnx", Recipe(precision=Precision.FP16, ranges={"given": 1.0}), is_played=True)
    nothing_seen = {"given": np.ones((1, 4), dtype=np.float32), "is_seen": np.zeros((1, 4), dtype=bool)}
    assert np.allclose(answers(tmp_path / "low.onnx", nothing_seen, batch=1)["made"], 4.0)


def test_a_product_can_be_kept_by_name(decoder: Exported, tmp_path: Path) -> None:
    before = described(decoder, tmp_path, Precision.BF16).products
    after = described(decoder, tmp_path, Precision.BF16, keep=("block.qkv.*",)).products
    assert after == {"bf16": before["bf16"] - 2, "fp32": before["fp32"] + 2}  # before the Scan and in it


def test_the_time_of_a_flow_is_embedded_in_float32(flow: Exported, tmp_path: Path) -> None:
    path = lowered(flow, tmp_path, Precision.BF16)
    types = types_of(path)
    products = [node for node in onnx.load(path).graph.node if KIND_OF.get(node.op_type) is Kind.PRODUCT]
    of_time = [node for node in products if any("time" in name for name in node.input)]
    inner = [node for node in products if any("inner" in name for name in node.input)]
    assert len(of_time) == len(inner) == 4
    assert {types[node.output[0]] for node in of_time} == {TensorProto.FLOAT}
    assert {types[node.output[0]] for node in inner} == {TensorProto.BFLOAT16}


def test_keys_and_values_for_the_next_run_are_no_answer(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "weight")
    nodes = [
        helper.make_node("MatMul", ["given", "weight"], ["present"]),
        helper.make_node("MatMul", ["present", "weight"], ["inner"]),
        helper.make_node("MatMul", ["inner", "weight"], ["made"]),
    ]
    source = _graph(tmp_path, nodes, [_value("given")], [weight], ["made", "present"])
    assert write(source, tmp_path / "low.onnx", Recipe(precision=Precision.BF16)).products == {"bf16": 2, "fp32": 1}
    careful = Recipe(precision=Precision.BF16, carried=())
    assert write(source, tmp_path / "low.onnx", careful).products == {"bf16": 1, "fp32": 2}
    assert types_of(tmp_path / "low.onnx")["present"] == TensorProto.FLOAT


def test_a_branch_is_lowered_like_what_surrounds_it(tmp_path: Path) -> None:
    def branch(name: str, factor: float) -> onnx.GraphProto:
        weight = numpy_helper.from_array(np.eye(4, dtype=np.float32) * factor, f"{name}.weight")
        node = helper.make_node("MatMul", ["given", f"{name}.weight"], [f"{name}.made"])
        return helper.make_graph([node], name, [], [_value(f"{name}.made")], [weight])

    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "weight")
    chosen = helper.make_node("If", ["is_left"], ["chosen"], then_branch=branch("left", 2.0), else_branch=branch("right", 3.0))
    nodes = [
        chosen,
        helper.make_node("MatMul", ["chosen", "weight"], ["inner"]),
        helper.make_node("MatMul", ["inner", "weight"], ["made"]),
    ]
    flag = helper.make_tensor_value_info("is_left", TensorProto.BOOL, [])
    source = _graph(tmp_path, nodes, [_value("given"), flag], [weight])
    wrote = write(source, tmp_path / "low.onnx", Recipe(precision=Precision.BF16))
    assert wrote.products == {"bf16": 3, "fp32": 1}
    assert types_of(tmp_path / "low.onnx")["chosen"] == TensorProto.BFLOAT16

    write(source, tmp_path / "played.onnx", Recipe(precision=Precision.BF16), is_played=True)
    for is_left, factor in ((True, 2.0), (False, 3.0)):
        given = {"given": np.ones((1, 4), dtype=np.float32), "is_left": np.array(is_left)}
        assert np.allclose(open_session(tmp_path / "played.onnx").run(["made"], given)[0], factor)


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([helper.make_node("Relu", ["given"], ["made"])], "no product can be bf16"),
        ([helper.make_node("MatMul", ["given", "weight"], ["made"])], "no product can be bf16"),  # the only one is the head
    ],
    ids=["no product", "heads only"],
)
def test_a_graph_with_nothing_to_lower_is_refused(nodes: list[onnx.NodeProto], reason: str, tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "weight")
    with pytest.raises(PrecisionError, match=rf"^model\.onnx: {reason}"):
        write(_graph(tmp_path, nodes, [_value("given")], [weight]), tmp_path / "low.onnx", Recipe(precision=Precision.BF16))
    assert not (tmp_path / "low.onnx").exists()


def test_float16_and_eight_bits_need_examples(decoder: Exported, tmp_path: Path) -> None:
    for precision in (Precision.FP16, Precision.FP8):
        with pytest.raises(PrecisionError, match=f"{precision} needs measured ranges"):
            write(decoder.path, tmp_path / "low.onnx", Recipe(precision=precision))


def test_a_lowered_graph_is_not_lowered_again(decoder: Exported, tmp_path: Path) -> None:
    path = lowered(decoder, tmp_path, Precision.BF16)
    with pytest.raises(PrecisionError, match="not float32: make the variant from the float32 graph"):
        write(path, tmp_path / "again.onnx", Recipe(precision=Precision.BF16))


def _value(name: str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["batch", 4])


def _graph(
    folder: Path,
    nodes: list[onnx.NodeProto],
    given: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto],
    outputs: Sequence[str] = ("made",),
) -> Path:
    graph = helper.make_graph(nodes, "graph", given, [_value(name) for name in outputs], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = folder / "model.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True), path)
    return path
