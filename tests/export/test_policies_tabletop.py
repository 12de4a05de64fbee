"""The tabletop family as the exporter sees it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from export.bundle import weight_hashes
from export.contract.manifest import load_manifest
from export.golden import load_golden
from export.policies.adapter import CheckpointError, CheckpointOptions
from export.policies.tabletop import open_checkpoint

pytestmark = pytest.mark.export
BUNDLE = Path("model_repository/tabletop")
OPTIONS = CheckpointOptions(checkpoint=Path("tabletop/weights"), name="tabletop", robots=("franka_panda",))


def test_the_committed_weights_give_the_golden_answers() -> None:
    golden = load_golden(BUNDLE)
    with torch.inference_mode():
        (found,) = open_checkpoint(OPTIONS).answers({name: torch.from_numpy(value) for name, value in golden.inputs.items()})
    assert np.allclose(found.numpy(), golden.outputs["action"], atol=1e-5)


def test_the_committed_manifest_is_the_one_that_is_written() -> None:
    committed = load_manifest(BUNDLE)
    written = open_checkpoint(OPTIONS).manifest(version=committed.version, sha256=committed.source.sha256)
    source = written.source.model_copy(update={"weights_sha256": weight_hashes(OPTIONS.checkpoint)})
    assert written.model_copy(update={"source": source}) == committed
    assert list(committed.source.weights_sha256) == ["policy.safetensors"]


def test_the_examples_are_the_same_every_time_and_name_every_input() -> None:
    policy = open_checkpoint(OPTIONS)
    first, again = policy.examples(), policy.examples()
    assert list(first) == ["image", "instruction_ids", "state", "state_mask"]
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("content", [None, b"", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_weights_that_are_missing_cut_or_of_another_network_are_one_line(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "policy.safetensors").write_bytes(content)
    options = CheckpointOptions(checkpoint=tmp_path, name="tabletop", robots=("franka_panda",))
    with pytest.raises(CheckpointError, match="no weights of the tabletop network") as refused:
        open_checkpoint(options)
    assert "\n" not in str(refused.value)
