"""What counts as the same answer, in the reference's precision and below."""

import numpy as np
import pytest

from export.contract.manifest import Manifest
from export.contract.runtime import Variant
from export.parity import ParityBroken, measure, token_agreement, worst
from tests.export.contracts import manifest, speaking

MANIFEST: Manifest = manifest(speaking())
EXACT = MANIFEST.served_variant
EXAMPLES = 4


def lower(**changes: object) -> Variant:
    return EXACT.model_copy(update={"name": "low", "precision": "bf16", **changes})


def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "action": random.normal(size=(EXAMPLES, 1, 7)).astype(np.float32),
        "tokens": random.integers(0, 99, (EXAMPLES, 7)),
        "is_action": np.ones((EXAMPLES, 7), np.uint8),
        "logprob": np.full((EXAMPLES, 7), -0.5, np.float32),
        "entropy": np.full((EXAMPLES, 7), 0.7, np.float32),
    }


def off(name: str, by: float, row: int = 0) -> dict[str, np.ndarray]:
    """The same arrays with one value of one example moved."""
    found = arrays()
    found[name].reshape(EXAMPLES, -1)[row, 0] += np.asarray(by).astype(found[name].dtype)
    return found


def test_a_small_difference_is_reported_and_allowed() -> None:
    found = worst([measure(off("action", 5e-6), arrays(), MANIFEST, EXACT)])
    assert [one.tensor for one in found] == ["action", "tokens", "is_action", "logprob", "entropy"]
    assert found[0].max_abs_difference == pytest.approx(5e-6, rel=0.1)
    assert found[0].examples == EXAMPLES
    assert found[1].share == 1.0
    assert token_agreement(found, MANIFEST) == 1.0


@pytest.mark.parametrize("by", [1e-4, float("nan"), float("inf")])
def test_too_far_or_not_finite_is_refused(by: float) -> None:
    with pytest.raises(ParityBroken, match="network: action: "):
        worst([measure(off("action", by), arrays(), MANIFEST, EXACT)])


def test_another_shape_or_type_is_refused() -> None:
    for wrong in (arrays()["action"][:, 0], arrays()["action"].astype(np.float64)):
        with pytest.raises(ParityBroken, match="action: inf off"):
            worst([measure(arrays() | {"action": wrong}, arrays(), MANIFEST, EXACT)])


@pytest.mark.parametrize("tensor", ["tokens", "is_action"])
def test_one_token_or_flag_in_the_reference_precision_is_one_too_many(tensor: str) -> None:
    with pytest.raises(ParityBroken, match=rf"{tensor}: 96\.43% equal, needed 100\.00%"):
        worst([measure(off(tensor, 1), arrays(), MANIFEST, EXACT)])


def test_the_worst_of_several_batch_sizes_counts() -> None:
    runs = [measure(off("logprob", by), arrays(), MANIFEST, EXACT) for by in (1e-6, 5e-5, 2e-5)]
    assert worst(runs)[3].max_abs_difference == pytest.approx(5e-5, rel=0.1)
    with pytest.raises(ParityBroken, match="logprob"):
        worst([*runs, measure(off("logprob", 1.0), arrays(), MANIFEST, EXACT)])


def test_lower_precision_is_measured_by_its_tokens() -> None:
    found = worst([measure(off("tokens", 1), arrays(), MANIFEST, lower())])
    assert token_agreement(found, MANIFEST) == pytest.approx(27 / 28)


def test_lower_precision_may_not_fall_behind_what_was_recorded() -> None:
    worst([measure(off("tokens", 1), arrays(), MANIFEST, lower(token_agreement=0.98))])
    with pytest.raises(ParityBroken, match=r"tokens: 96\.43% equal, needed 98\.00%"):
        worst([measure(off("tokens", 1), arrays(), MANIFEST, lower(token_agreement=1.0))])


def test_floats_of_lower_precision_are_compared_where_the_tokens_agree() -> None:
    apart = off("tokens", 1, row=2) | {"action": off("action", 0.5, row=2)["action"]}
    found = worst([measure(apart, arrays(), MANIFEST, lower())])
    assert (found[0].max_abs_difference, found[0].examples) == (0.0, EXAMPLES - 1)
    with pytest.raises(ParityBroken, match="action"):
        worst([measure(off("action", 0.5, row=1), arrays(), MANIFEST, lower())])


def test_lower_precision_has_tolerances_of_its_own() -> None:
    worst([measure(off("action", 0.01), arrays(), MANIFEST, lower(tolerances={"action": 0.02}))])


def test_numbers_that_were_compared_on_no_example_are_never_close() -> None:
    apart = arrays()
    apart["tokens"] = apart["tokens"] + 1
    with pytest.raises(ParityBroken, match="action: compared on no example, none has the original's tokens") as refused:
        worst([measure(apart, arrays(), MANIFEST, lower())])
    assert [one.examples for one in refused.value.agreements] == [0, EXAMPLES, EXAMPLES, 0, 0]


def test_nothing_agrees_with_nothing() -> None:
    none = {name: value[:0] for name, value in arrays().items()}
    with pytest.raises(ParityBroken, match="action: compared on no example"):
        worst([measure(none, none, MANIFEST, EXACT)])
