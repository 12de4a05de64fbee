"""Tensors carry a batch of one, and an action is believed only in the manifest's shape."""

import numpy as np
import pytest

from control_plane.policies.catalogue import load_catalogue
from control_plane.policies.tensors import WrongAnswer, action_of, canary_inputs, state_tensors
from control_plane.triton import Tensor
from export.contract.facts import State
from tests.control_plane.fakes import ROOT, STILL

MANIFEST = load_catalogue(ROOT / "model_repository", default="tabletop").policies["tabletop"].manifest


def action(**changes: object) -> dict[str, Tensor]:
    facts = {"name": "action", "datatype": "FP32", "shape": (1, 8, 7), "data": STILL.tobytes(), **changes}
    return {"action": Tensor(**facts)}  # type: ignore[arg-type]  # one wrong fact at a time


def test_the_canary_has_every_input_of_the_graph_at_full_size() -> None:
    tensors = {tensor.name: tensor for tensor in canary_inputs(MANIFEST)}
    assert {name: (tensor.datatype, tensor.shape) for name, tensor in tensors.items()} == {
        "image": ("UINT8", (1, 128, 128, 3)),
        "instruction_ids": ("INT64", (1, 24)),
        "state": ("FP32", (1, 8)),
        "state_mask": ("FP32", (1, 1)),
    }
    assert [len(tensor.data) for tensor in tensors.values()] == [128 * 128 * 3, 24 * 8, 8 * 4, 4]


def test_a_required_state_has_no_mask() -> None:
    spec = State(names=("a",), units=("rad",), is_required=True, tensor="s")
    assert [tensor.name for tensor in state_tensors(spec, np.ones(1, np.float32))] == ["s"]
    assert state_tensors(None, None) == ()


@pytest.mark.parametrize("shape", [(1, 8, 7), (8, 7)])
def test_an_action_comes_with_or_without_its_batch_dimension(shape: tuple[int, ...]) -> None:
    numbers = np.arange(56, dtype=np.float32).reshape(8, 7)
    assert (action_of(MANIFEST, action(shape=shape, data=numbers.tobytes())) == numbers).all()


@pytest.mark.parametrize(
    "wrong",
    [{"shape": (1, 7, 8)}, {"shape": (56,)}, {"datatype": "FP64"}, {"data": b""}, {"data": STILL.tobytes()[:-4]}],
)
def test_any_other_answer_is_wrong(wrong: dict[str, object]) -> None:
    with pytest.raises(WrongAnswer):
        action_of(MANIFEST, action(**wrong))


def test_no_answer_is_wrong() -> None:
    with pytest.raises(WrongAnswer):
        action_of(MANIFEST, {})
