"""The committed bundle answers its golden vectors through ONNX Runtime; a wrong graph is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from export.bundle import Golden, load_golden, model_path
from export.contract.manifest import load_manifest
from export.parity import ParityBroken
from export.verify import agree, verify

pytestmark = pytest.mark.export
BUNDLE = Path("model_repository/tabletop")


def test_the_committed_bundle_answers_as_the_original_did() -> None:
    (found,) = verify(BUNDLE)
    assert found.tensor == "action"
    assert found.max_abs_difference < 1e-5


def test_answers_that_are_off_are_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(BUNDLE, tmp_path / "tabletop"))
    manifest, golden = load_manifest(folder), load_golden(folder)
    wrong = Golden(inputs=golden.inputs, outputs={"action": np.add(golden.outputs["action"], 0.01)})
    with pytest.raises(ParityBroken):
        agree(model_path(folder, manifest), wrong, manifest)
