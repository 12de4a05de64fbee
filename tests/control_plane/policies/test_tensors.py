"""Tensors carry a batch of one, and an action is believed only in the manifest's shape."""

from typing import Any

import numpy as np
import pytest

from control_plane.policies.catalogue import load_catalogue
from control_plane.policies.tensors import (
    WrongAnswer,
    action_of,
    canary_inputs,
    chosen_tensors,
    entropy_of,
    outputs_wanted,
    picture_tensors,
    state_tensors,
)
from control_plane.triton import Tensor
from export.contract.facts import State
from export.contract.wire import inputs_of
from tests.control_plane.fakes import ROOT, STILL
from tests.export.contracts import manifest, speaking

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


def everything() -> dict[str, Any]:
    """A policy with a camera that may be missing, a choice of statistics and noise."""
    facts = speaking() | {"noise": {"tensor": "noise", "shape": [50, 7]}}
    facts["cameras"].append(
        facts["cameras"][0] | {"name": "wrist", "tensor": "wrist", "is_required": False, "mask_tensor": "seen"}
    )
    return facts


def test_the_canary_is_what_the_wire_wants_in_its_order() -> None:
    datatypes = {"uint8": "UINT8", "int64": "INT64", "float32": "FP32"}
    wanted = [(one.name, datatypes[one.dtype], (1, *one.shape)) for one in inputs_of(manifest(everything()))]
    assert [(one.name, one.datatype, one.shape) for one in canary_inputs(manifest(everything()))] == wanted


def test_a_camera_that_was_not_sent_is_black_and_masked_out() -> None:
    camera = manifest(everything()).cameras[1]
    picture, mask = picture_tensors(camera, None)
    assert not any(picture.data)
    assert np.frombuffer(mask.data, np.float32).tolist() == [0.0]
    _, mask = picture_tensors(camera, np.ones((128, 128, 3), np.uint8))
    assert np.frombuffer(mask.data, np.float32).tolist() == [1.0]


def test_statistics_are_chosen_by_their_place_and_noise_is_drawn_anew() -> None:
    index, noise = chosen_tensors(manifest(everything()), unnorm_key="fractal")
    assert np.frombuffer(index.data, np.int64).tolist() == [1]
    assert noise.shape == (1, 50, 7)
    _, again = chosen_tensors(manifest(everything()), unnorm_key="fractal")
    assert noise.data != again.data
    assert chosen_tensors(manifest(everything()), unnorm_key=None, seed=1) == chosen_tensors(
        manifest(everything()), unnorm_key="bridge", seed=1
    )


def spoken(is_action: list[int], **changes: object) -> dict[str, Tensor]:
    numbers = np.arange(7, dtype=np.float32)
    facts = {"name": "is_action", "datatype": "UINT8", "shape": (1, 7), "data": bytes(is_action), **changes}
    return {
        "action": Tensor(name="action", datatype="FP32", shape=(1, 1, 7), data=numbers.tobytes()),
        "is_action": Tensor(**facts),  # type: ignore[arg-type]  # one wrong fact at a time
    }


def entropies(*values: float, **changes: object) -> dict[str, Tensor]:
    facts = {"name": "entropy", "datatype": "FP32", "shape": (1, 7), "data": np.array(values, np.float32).tobytes(), **changes}
    return {"entropy": Tensor(**facts)}  # type: ignore[arg-type]  # one wrong fact at a time


def test_how_unsure_each_token_was_comes_with_over_how_many_ids() -> None:
    found = entropy_of(manifest(speaking()), entropies(0, 1, 2, 3, 4, 5, 0.5))
    assert found is not None
    assert (list(found.entropy_nats), found.bin_count) == ([0, 1, 2, 3, 4, 5, 0.5], 256)


@pytest.mark.parametrize("wrong", [{"data": b""}, {"datatype": "FP64"}, {"shape": (1, 8)}, {"name": "other"}])
def test_broken_entropies_are_a_wrong_answer(wrong: dict[str, object]) -> None:
    answer = entropies(*[0.0] * 7, **wrong)
    with pytest.raises(WrongAnswer):
        entropy_of(manifest(speaking()), {tensor.name: tensor for tensor in answer.values()})


def test_a_policy_without_tokens_or_a_bundle_that_does_not_say_how_many_has_none() -> None:
    facts = speaking()
    del facts["tokens"]["vocabulary"]
    assert entropy_of(manifest(facts), {}) is None
    assert outputs_wanted(manifest(facts)) == ("action", "is_action")
    assert entropy_of(MANIFEST, {}) is None


def test_the_action_whether_it_was_spoken_and_how_surely_are_asked_for() -> None:
    assert outputs_wanted(manifest(speaking())) == ("action", "is_action", "entropy")
    assert outputs_wanted(MANIFEST) == ("action",)


def test_a_number_whose_token_is_no_action_is_not_a_number() -> None:
    assert action_of(manifest(speaking()), spoken([1] * 7)).tolist() == [[0, 1, 2, 3, 4, 5, 6]]
    found = action_of(manifest(speaking()), spoken([1, 1, 0, 1, 1, 1, 1]))
    assert np.isnan(found).tolist() == [[False, False, True, False, False, False, False]]


@pytest.mark.parametrize("wrong", [{"data": b""}, {"datatype": "INT64"}, {"shape": (1, 8)}, {"name": "other"}])
def test_a_broken_flag_is_never_read_as_fine(wrong: dict[str, object]) -> None:
    answer = spoken([1] * 7, **wrong)
    with pytest.raises(WrongAnswer):
        action_of(manifest(speaking()), {tensor.name: tensor for tensor in answer.values()})


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
