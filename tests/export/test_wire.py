"""The order of a request's tensors follows from the manifest."""

from export.contract.wire import inputs_of, outputs_of
from tests.export.contracts import manifest, shipped, speaking


def test_a_request_holds_pictures_words_state_index_and_noise_in_this_order() -> None:
    facts = speaking()
    facts["noise"] = {"tensor": "noise", "shape": [50, 7]}
    facts["cameras"].append(
        facts["cameras"][0] | {"name": "wrist", "tensor": "wrist", "is_required": False, "mask_tensor": "seen"}
    )
    assert [(one.name, one.dtype, one.shape) for one in inputs_of(manifest(facts))] == [
        ("image", "uint8", (128, 128, 3)),
        ("wrist", "uint8", (128, 128, 3)),
        ("seen", "float32", (1,)),
        ("instruction_ids", "int64", (64,)),
        ("state", "float32", (8,)),
        ("state_mask", "float32", (1,)),
        ("unnorm_index", "int64", (1,)),
        ("noise", "float32", (50, 7)),
    ]


def test_a_policy_without_words_and_state_has_pictures_only() -> None:
    facts = shipped() | {"instruction": None, "state": None}
    assert [one.name for one in inputs_of(manifest(facts))] == ["image"]


def test_outputs_come_in_the_manifests_order() -> None:
    assert [one.name for one in outputs_of(manifest(speaking()))] == ["action", "tokens", "is_action", "logprob", "entropy"]
