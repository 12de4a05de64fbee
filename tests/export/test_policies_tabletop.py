"""The tabletop family as the exporter sees it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from export.bundle import load_golden
from export.contract.manifest import load_manifest
from export.policies import tabletop

pytestmark = pytest.mark.export
BUNDLE = Path("model_repository/tabletop")


def test_the_committed_weights_give_the_golden_answers() -> None:
    golden = load_golden(BUNDLE)
    with torch.inference_mode():
        found = tabletop.network()(**{name: torch.from_numpy(value) for name, value in golden.inputs.items()})
    assert np.allclose(found.numpy(), golden.outputs["action"], atol=1e-5)


def test_the_committed_manifest_is_the_one_that_is_written() -> None:
    committed = load_manifest(BUNDLE)
    assert tabletop.manifest(version=committed.version, sha256=committed.source.sha256) == committed


def test_the_examples_are_the_same_every_time_and_name_every_input() -> None:
    first, again = tabletop.examples(), tabletop.examples()
    assert list(first) == ["image", "instruction_ids", "state", "state_mask"]
    assert all(torch.equal(first[name], again[name]) for name in first)
