"""The served graphs answer as the original, alone and in padded batches; each known silent mistake would change the answer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.contract.tokenize import InstructionTokenizer
from export.policies.openvla.decode import Act, Continue, Decoded, Prompt, generate, greedy
from export.policies.openvla.network import OpenVla
from export.policies.openvla.policy import OpenVlaPolicy
from export.python_backend.openvla_decode import Runner
from tests.export.openvla.conftest import Arrays, Reference, opened
from tests.export.openvla_checkpoint import PAD, Shape, write_checkpoint

pytestmark = [pytest.mark.export, pytest.mark.timeout(400)]  # the first to ask exports two checkpoints
OUTPUTS = ("action", "action_tokens", "is_action_token", "token_logprob", "token_entropy")


@pytest.fixture(scope="module")
def runner(tiny: OpenVlaPolicy, tiny_graphs: Path) -> Runner:
    return Runner(tiny_graphs, tiny.manifest(version=1, sha256={}).served_variant.parameters)


def _rows(inputs: Arrays, rows: slice) -> Arrays:
    return {name: value[rows] for name, value in inputs.items()}


def test_the_reference_is_reproduced_one_by_one(runner: Runner, reference: Reference) -> None:
    for row, case in enumerate(reference.cases):
        action, tokens, is_action, *_ = runner.run(_rows(reference.inputs, slice(row, row + 1)), OUTPUTS)
        assert tokens[0].tolist() == case["action_tokens"]
        assert np.abs(action[0, 0] - case["action"]).max() < 1e-6
        assert is_action.min() == 1


def test_the_reference_is_reproduced_in_one_padded_batch(runner: Runner, reference: Reference) -> None:
    lengths = {int((ids != PAD).sum()) for ids in reference.inputs["instruction_ids"]}
    assert len(lengths) > 1
    action, tokens, *_ = runner.run(reference.inputs, OUTPUTS)
    assert tokens.tolist() == reference.tokens.tolist()
    assert np.abs(action[:, 0] - reference.actions).max() < 1e-6


def test_the_bucket_does_not_change_the_answer(tiny: OpenVlaPolicy, tiny_graphs: Path, reference: Reference) -> None:
    longest = {"buckets": str(reference.inputs["instruction_ids"].shape[1]), "pad_id": str(PAD)}
    _, tokens, *_ = Runner(tiny_graphs, longest).run(_rows(reference.inputs, slice(0, 4)), OUTPUTS)
    assert tokens.tolist() == reference.tokens[:4].tolist()


def test_log_probabilities_and_entropies_are_the_original_s(runner: Runner, tiny: OpenVlaPolicy, reference: Reference) -> None:
    some = _rows(reference.inputs, slice(0, 6))
    expected = tiny.answers({name: torch.from_numpy(value) for name, value in some.items()})
    for found, wanted in zip(runner.run(some, OUTPUTS), expected, strict=True):
        assert found.shape == tuple(wanted.shape)
        assert np.abs(found.astype(np.float64) - wanted.double().numpy()).max() < 1e-4


def test_a_row_of_padding_spoils_no_other(runner: Runner, reference: Reference) -> None:
    """The health check of a batch's neighbour asks with nothing but padding."""
    some = {name: value[:2].copy() for name, value in reference.inputs.items()}
    some["instruction_ids"][1] = PAD
    action, tokens, *_ = runner.run(some, OUTPUTS)
    assert tokens[0].tolist() == reference.tokens[0].tolist()
    assert np.isfinite(action).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [("instruction_ids", 40_000), ("instruction_ids", -1), ("unnorm_index", 2), ("unnorm_index", -1)],
)
def test_ids_that_mean_nothing_are_errors_of_the_request(runner: Runner, reference: Reference, name: str, value: int) -> None:
    some = {key: one[:1].copy() for key, one in reference.inputs.items()}
    some[name][0, -1] = value
    with pytest.raises(Runner.ERRORS):
        runner.run(some, OUTPUTS)


def test_another_architecture_is_reproduced_alone_and_in_padded_batches(odd: OpenVlaPolicy, repository: Path) -> None:
    examples = {name: value[:9] for name, value in odd.examples().items()}
    expected = odd.answers(examples)
    runner = Runner(repository / "odd" / "1", odd.manifest(version=1, sha256={}).served_variant.parameters)
    inputs = {name: value.numpy() for name, value in examples.items()}
    for batch in (1, 3):
        parts = [runner.run(_rows(inputs, slice(row, row + batch)), OUTPUTS) for row in range(0, 9, batch)]
        for index, wanted in enumerate(expected):
            found = np.concatenate([part[index] for part in parts])
            assert np.abs(found.astype(np.float64) - wanted.double().numpy()).max() < 1e-4


# What the recipes that exist get wrong without an error (reference: vla_serving.md §3.6): each changes the answer here.


def _act(tiny: OpenVlaPolicy, **changes: Any) -> Act:
    right = tiny.graphs()[2].module
    return Act(changes.pop("table", right.table), **({"action_vocab": 32000, "n_action_bins": 256} | changes))


def _actions(act: Act, reference: Reference) -> np.ndarray:
    action, _ = act(torch.from_numpy(reference.tokens), torch.from_numpy(reference.inputs["unnorm_index"]))
    return action[:, 0].double().numpy()


def _generate(network: OpenVla, reference: Reference, row: int, ids: list[int]) -> Decoded:
    return generate(network, torch.from_numpy(reference.inputs["image"][row]), torch.tensor(ids), count=7)


def test_the_right_recipe_is_right(tiny: OpenVlaPolicy, tiny_network: OpenVla, reference: Reference) -> None:
    assert np.abs(_actions(_act(tiny), reference) - reference.actions).max() < 1e-6
    assert _generate(tiny_network, reference, 0, reference.cases[0]["input_ids"]).tokens.tolist() == reference.tokens[0].tolist()


def test_the_padded_vocabulary_shifts_by_64_bins(tiny: OpenVlaPolicy, reference: Reference) -> None:
    shifted = _actions(_act(tiny, action_vocab=32064), reference)
    inner = (reference.tokens > 31744 + 64) & (np.arange(7) == 6)  # the gripper passes through, so it is in bins' units
    assert np.allclose((shifted - reference.actions)[inner], 64 * 2 / 255, atol=1e-5)
    assert inner.any()


def test_without_the_empty_token_other_tokens_come_out(tiny_network: OpenVla, reference: Reference) -> None:
    ids = reference.cases[0]["input_ids"]
    assert ids[-1] == 29871
    assert _generate(tiny_network, reference, 0, ids[:-1]).tokens.tolist() != reference.tokens[0].tolist()


def test_without_lower_casing_other_tokens_come_out(
    tiny: OpenVlaPolicy, tiny_network: OpenVla, reference: Reference, openvla_tiny: Path
) -> None:
    row = next(row for row, case in enumerate(reference.cases) if case["instruction"] != case["instruction"].lower())
    facts = tiny.manifest(version=1, sha256={}).instruction
    assert facts is not None
    from_capitals = InstructionTokenizer(openvla_tiny, facts.model_copy(update={"lowercase": False}))
    found = from_capitals.ids(reference.cases[row]["instruction"])
    tokens = _generate(tiny_network, reference, row, found[found != PAD].tolist()).tokens
    assert tokens.tolist() != reference.tokens[row].tolist()


def test_edges_instead_of_centres_are_half_a_bin_off(tiny: OpenVlaPolicy, reference: Reference) -> None:
    edges = torch.linspace(-1, 1, 256)[:-1].expand(2, 7, 255)
    gripper = _actions(_act(tiny, table=edges.contiguous()), reference)[:, 6]
    assert np.allclose(gripper - reference.actions[:, 6], -1 / 255, atol=1e-6)


def test_a_forgotten_mask_moves_the_gripper(tiny: OpenVlaPolicy, reference: Reference) -> None:
    table = tiny.graphs()[2].module.table.clone()
    table[:, 6] = 0.5 * (table[:, 6] + 1.0)  # its bounds are 0 and 1
    assert np.abs(_actions(_act(tiny, table=table), reference) - reference.actions)[:, 6].max() > 0.1


def test_padding_that_is_looked_at_changes_tokens(tiny: OpenVlaPolicy, reference: Reference) -> None:
    prompt, after, _ = (graph.module for graph in tiny.graphs())
    image, ids = (torch.from_numpy(reference.inputs[name][:1]) for name in ("image", "instruction_ids"))
    with torch.inference_mode():
        embeddings, is_real = prompt(image, ids)
        first = _first_token(after, embeddings, is_real)
        careless = _first_token(after, embeddings, torch.ones_like(is_real))
    assert first == reference.tokens[0, 0]
    assert careless != first


def _first_token(after: Continue, embeddings: torch.Tensor, is_real: torch.Tensor) -> int:
    text = after.llama.model.text
    past = torch.zeros(1, text.num_hidden_layers, 2, text.num_key_value_heads, 1, text.head_dim)
    nothing = torch.zeros(1, 1, dtype=torch.bool)
    return int(after(embeddings, is_real, torch.zeros(1, dtype=torch.int64), past, nothing)[0])


def test_a_token_that_is_no_action_is_flagged_and_clipped_as_the_original_does(tiny: OpenVlaPolicy) -> None:
    tokens = torch.tensor([[31743, 31744, 31745, 31999, 32000, 5, 32063]])
    action, is_action = _act(tiny)(tokens, torch.tensor([[0]]))
    assert is_action.tolist() == [[0, 1, 1, 1, 0, 0, 0]]
    bins = [254, 254, 254, 0, 0, 254, 0]
    assert action[0, 0].tolist() == [float(tiny.graphs()[2].module.table[0, column, bin_]) for column, bin_ in enumerate(bins)]


def test_a_network_that_speaks_words_is_flagged(tmp_path: Path) -> None:
    """Random weights choose words too; the flags tell which tokens are actions, and the ids are given as they are."""
    policy = opened(write_checkpoint(tmp_path, Shape()))
    _, tokens, is_action, *_ = policy.answers({name: value[:16] for name, value in policy.examples().items()})
    assert torch.equal(is_action.bool(), (tokens >= 31744) & (tokens < 32000))
    assert {0, 1} <= set(is_action.flatten().tolist())


def test_the_choice_is_made_over_the_whole_vocabulary() -> None:
    logits = torch.zeros(1, 32064)
    logits[0, 7] = 3.0
    token, logprob, entropy = greedy(logits)
    probabilities = torch.softmax(logits[0].double(), dim=0)
    assert int(token) == 7
    assert float(logprob) == pytest.approx(float(probabilities[7].log()), abs=1e-5)
    assert float(entropy) == pytest.approx(float(-(probabilities * probabilities.log()).sum()), abs=1e-4)


def test_the_prompt_graph_marks_pictures_and_words_as_real(tiny: OpenVlaPolicy, reference: Reference) -> None:
    prompt = tiny.graphs()[0].module
    assert isinstance(prompt, Prompt)
    image, ids = (torch.from_numpy(reference.inputs[name][:1]) for name in ("image", "instruction_ids"))
    with torch.inference_mode():
        embeddings, is_real = prompt(image, ids)
    assert embeddings.shape[:2] == is_real.shape == (1, 256 + ids.shape[1])
    assert int(is_real.sum()) == 256 + len(reference.cases[0]["input_ids"])
