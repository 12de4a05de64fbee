"""The judge counts what happened, and the shipped policy heads for the cube that is named."""

from pathlib import Path

import numpy as np
import pytest

from export.contract.tokenize import InstructionTokenizer
from tabletop.checkpoint import FOLDER
from tabletop.drive import Inputs, Policy, from_onnx
from tabletop.evaluate import FIRST_SEED, Condition, Trial, first_motion
from tabletop.instructions import SPEC
from tabletop.wording import Wording

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("camera")]
SERVED = Path("model_repository/tabletop/1/model.onnx")


def _lazy_policy() -> Policy:
    def answer(inputs: Inputs) -> np.ndarray:
        return np.zeros((1, 8, 7), dtype=np.float32)

    return Policy(network=answer, tokenizer=InstructionTokenizer(FOLDER, SPEC))


def _served_policy() -> Policy:
    return from_onnx(SERVED)


def test_a_policy_that_does_nothing_lifts_nothing() -> None:
    runs = Trial(make_policy=_lazy_policy, condition=Condition(name="lazy"), seeds=range(FIRST_SEED, FIRST_SEED + 1)).run()
    assert runs == [(False, False, 120)]


def test_the_served_policy_picks_up_the_named_cube_with_and_without_state() -> None:
    for has_state in (True, False):
        condition = Condition(name="some", has_state=has_state)
        runs = Trial(make_policy=_served_policy, condition=condition, seeds=range(FIRST_SEED, FIRST_SEED + 6)).run()
        assert sum(is_named for is_named, _, _ in runs) >= 4
        assert not any(is_wrong for _, is_wrong, _ in runs)


@pytest.mark.parametrize("wording", list(Wording))
def test_the_first_motion_follows_the_words(wording: Wording) -> None:
    condition = Condition(name="words", has_state=False, wording=wording)
    right, asked = first_motion(_served_policy(), condition, scenes=8)
    assert asked == 24
    assert right >= 21
