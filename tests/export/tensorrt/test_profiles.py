"""Profiles cover every free axis, one per prompt length; an axis without a range is refused by name."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from export.contract.runtime import ShapeRange
from export.tensorrt.library import EngineError
from export.tensorrt.profiles import Axes, Range, parse_range, profiles

pytestmark = pytest.mark.export
BATCH = {"batch": Range(min=1, opt=4, max=16)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 8, 8, 3])
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "words"])
    out = helper.make_tensor_value_info("out", TensorProto.INT64, ["batch", "words"])
    graph = helper.make_graph([helper.make_node("Identity", ["ids"], ["out"])], "g", [image, ids], [out])
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_every_bucket_is_a_profile_with_the_same_batches(model: Path) -> None:
    found = profiles(model, Axes(ranges=BATCH, cases=({"words": 24}, {"words": 32})))
    assert [profile["ids"] for profile in found] == [
        ShapeRange(min=(1, 24), opt=(4, 24), max=(16, 24)),
        ShapeRange(min=(1, 32), opt=(4, 32), max=(16, 32)),
    ]
    assert {profile["image"] for profile in found} == {ShapeRange(min=(1, 8, 8, 3), opt=(4, 8, 8, 3), max=(16, 8, 8, 3))}


def test_a_free_axis_without_a_range_is_refused_by_name(model: Path) -> None:
    with pytest.raises(EngineError, match=r"^model\.onnx: axis 'words' of input 'ids' is free: say `--axis words=MIN:OPT:MAX`"):
        profiles(model, Axes(ranges=BATCH))


def test_ranges_are_read_from_the_command_line() -> None:
    assert parse_range("words=1:24:32") == ("words", Range(min=1, opt=24, max=32))


@pytest.mark.parametrize("text", ["words", "words=1:2", "=1:2:3", "words=0:1:2", "words=3:2:1", "words=a:b:c"])
def test_a_range_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(EngineError, match="--axis"):
        parse_range(text)
