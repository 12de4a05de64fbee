"""A policy is asked the same way whether it is PyTorch or the served graph, and says when no state was sent."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.contract.preprocess import resize
from export.contract.tokenize import InstructionTokenizer
from tabletop.checkpoint import FOLDER
from tabletop.contract import CAMERA
from tabletop.drive import Inputs, NoWeights, Policy, from_onnx, from_weights
from tabletop.evaluate import heads_for
from tabletop.instructions import SPEC
from tabletop.scene import Tabletop
from tabletop.things import CUBE_COLOURS

pytestmark = pytest.mark.export
SERVED = Path("model_repository/tabletop/1/model.onnx")
SCENES = Path("tabletop/assets/scenes")
PICTURE = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
STATE = np.random.default_rng(1).normal(size=8).astype(np.float32)


@pytest.mark.parametrize("picture", sorted(SCENES.glob("*.jpg")), ids=lambda path: path.stem)
@pytest.mark.parametrize("colour", CUBE_COLOURS)
def test_the_first_motion_in_a_committed_picture_is_toward_the_named_cube(table: Tabletop, picture: Path, colour: str) -> None:
    table.reset(int(picture.stem))  # the picture's name is its seed; nothing is drawn here
    seen = resize(Image.open(picture).convert("RGB"), CAMERA)
    for instruction in (f"pick up {colour} cube", f"please could you grab the {colour} one"):
        assert heads_for(table.view, from_onnx(SERVED).ask(seen, instruction, None)) == f"{colour} cube"


@pytest.mark.parametrize("state", [STATE, None], ids=["with state", "without state"])
def test_the_committed_weights_answer_like_the_served_graph(state: np.ndarray | None) -> None:
    expected = from_weights(FOLDER).ask(PICTURE, "pick up red cube", state)
    assert np.allclose(from_onnx(SERVED).ask(PICTURE, "pick up red cube", state), expected, atol=1e-5)


def test_a_missing_state_is_masked_and_never_invented() -> None:
    seen: list[Inputs] = []

    def answer(inputs: Inputs) -> np.ndarray:
        seen.append(inputs)
        return np.zeros((1, 8, 7), dtype=np.float32)

    policy = Policy(network=answer, tokenizer=InstructionTokenizer(FOLDER, SPEC))
    policy.ask(PICTURE, "lift the blue block", STATE)
    policy.ask(PICTURE, "lift the blue block", None)
    assert [inputs["state_mask"].tolist() for inputs in seen] == [[[1.0]], [[0.0]]]
    assert not seen[1]["state"].any()


def test_a_bundle_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NoWeights, match="no exported policy there; `vlaapi export tabletop`"):
        from_onnx(tmp_path / "1" / "model.onnx")
