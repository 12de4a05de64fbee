"""Golden vectors are this policy's tensors, whole, and many enough to prove something."""

from pathlib import Path

import numpy as np
import pytest

from export.contract.manifest import load_manifest
from export.contract.wire import inputs_of, outputs_of
from export.golden import Golden, GoldenUnfit, load_golden
from tests.export.contracts import BUNDLE, manifest, speaking

SPEAKING = manifest(speaking())


def golden(pairs: int) -> Golden:
    def filled(tensors: tuple[object, ...]) -> dict[str, np.ndarray]:
        return {one.name: np.zeros((pairs, *one.shape), one.dtype) for one in tensors}  # type: ignore[attr-defined]

    found = Golden(inputs=filled(inputs_of(SPEAKING)), outputs=filled(outputs_of(SPEAKING)))
    found.inputs["state"][:, 0] = np.arange(pairs)
    return found


def test_they_survive_the_file(tmp_path: Path) -> None:
    golden(3).save(tmp_path)
    found = load_golden(tmp_path)
    assert found.count == 3
    assert found.inputs["image"].dtype == np.uint8
    assert np.array_equal(found.inputs["state"], golden(3).inputs["state"])


def test_the_shipped_ones_fit_are_small_and_come_with_and_without_state() -> None:
    found = load_golden(BUNDLE)
    found.refuse_unfit(load_manifest(BUNDLE))
    assert set(found.inputs["state_mask"].ravel().tolist()) == {0.0, 1.0}
    assert found.count >= 8
    assert (BUNDLE / "golden.npz").stat().st_size < 500_000


def test_sixty_four_different_pairs_prove_a_token_policy() -> None:
    golden(64).refuse_unfit(SPEAKING)
    with pytest.raises(GoldenUnfit, match="63 different"):
        golden(63).refuse_unfit(SPEAKING)


def test_the_same_pair_again_does_not_count() -> None:
    repeated = golden(64)
    repeated.inputs["state"][:] = 0
    with pytest.raises(GoldenUnfit, match="1 different image/instruction pairs"):
        repeated.refuse_unfit(SPEAKING)


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("state", None, "state is missing"),
        ("state", np.zeros((64, 7), np.float32), r"state is float32 \(7,\), the manifest says float32 \(8,\)"),
        ("instruction_ids", np.zeros((64, 64), np.int32), "instruction_ids is int32"),
        ("wrist", np.zeros((64, 1), np.uint8), "wrist is not in the manifest"),
        ("state", np.zeros((63, 8), np.float32), "differ in how many examples"),
    ],
)
def test_tensors_that_are_not_the_manifests_are_named(name: str, value: np.ndarray | None, fault: str) -> None:
    wrong = golden(64)
    wrong.inputs.pop(name, None)
    if value is not None:
        wrong.inputs[name] = value
    with pytest.raises(GoldenUnfit, match=fault):
        wrong.refuse_unfit(SPEAKING)


def test_no_example_proves_nothing_of_a_policy_without_tokens_either() -> None:
    found = load_golden(BUNDLE)
    none = Golden(inputs={k: v[:0] for k, v in found.inputs.items()}, outputs={k: v[:0] for k, v in found.outputs.items()})
    with pytest.raises(GoldenUnfit, match="golden vectors: no examples"):
        none.refuse_unfit(load_manifest(BUNDLE))


@pytest.mark.parametrize("content", [None, b"", b"not an archive"])
def test_a_file_that_cannot_be_read_is_said_so(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "golden.npz").write_bytes(content)
    with pytest.raises(GoldenUnfit, match=r"golden\.npz cannot be read"):
        load_golden(tmp_path)
