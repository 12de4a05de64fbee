"""The network has the published names and shapes, at any size, and reads the reference checkpoint as the original does."""

import json
import math
from pathlib import Path

import pytest
import torch

from export.policies.openvla.config import read_config
from export.policies.openvla.decode import generate
from export.policies.openvla.network import OpenVla, meta_network
from export.policies.openvla.policy import OpenVlaPolicy
from export.policies.openvla.towers import Normalise
from export.policies.openvla.weights import load
from tests.export.openvla.conftest import Reference
from tests.export.openvla_checkpoint import PUBLISHED_TOWERS, Shape, published_shapes, single_tower, write_checkpoint

pytestmark = pytest.mark.export


def _network(folder: Path, shape: Shape) -> OpenVla:
    network = meta_network(read_config(write_checkpoint(folder, shape)))
    load(network, folder, dtype=torch.float32)
    return network


def test_the_7b_shape_has_the_published_names_and_shapes(tmp_path: Path) -> None:
    shape = Shape(towers=PUBLISHED_TOWERS, image_size=224, text={})
    config = shape.config_json()
    del config["vision_towers"], config["timm_model_ids"], config["image_sizes"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    network = meta_network(read_config(tmp_path))
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == published_shapes(shape)
    assert len(network.state_dict()) == 982
    assert sum(parameter.numel() for parameter in network.parameters()) == 7_541_237_184  # as the model's page says
    assert all(parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize("kind", ["siglip", "dinov2", "dinov2_reg4", "clip", "augreg"])
def test_a_single_tower_of_any_family_is_read_and_run(tmp_path: Path, kind: str) -> None:
    shape = single_tower(kind)
    network = _network(tmp_path, shape)
    patches = network.patches(torch.rand(2, 3, shape.image_size, shape.image_size))
    assert patches.shape == (2, 4, 32)
    assert math.isfinite(float(patches.sum()))


def test_several_pictures_are_read_one_after_another(tmp_path: Path) -> None:
    network = _network(tmp_path, Shape())
    pixels = torch.rand(2, 12, 28, 28)
    together = network.patches(pixels)
    first, second = network.patches(pixels[:, :6]), network.patches(pixels[:, 6:])
    assert torch.allclose(together, torch.cat([first, second], dim=1), atol=1e-5)


def test_the_towers_see_their_own_channels(tmp_path: Path) -> None:
    network = _network(tmp_path, Shape())
    pixels = torch.rand(1, 6, 28, 28)
    other = torch.cat([pixels[:, :3], pixels[:, 3:] + 1.0], dim=1)
    before, after = network.vision_backbone(pixels), network.vision_backbone(other)
    assert torch.equal(before[..., :24], after[..., :24])
    assert not torch.allclose(before[..., 24:], after[..., 24:])


def test_the_last_block_is_not_run(tmp_path: Path) -> None:
    network = _network(tmp_path, Shape())
    pixels = torch.rand(1, 6, 28, 28)
    before = network.vision_backbone(pixels)
    for parameter in network.vision_backbone.featurizer.blocks[-1].parameters():
        parameter.fill_(float("nan"))
    assert torch.equal(before, network.vision_backbone(pixels))


def test_grouped_heads_are_shared_by_their_queries(tmp_path: Path) -> None:
    """With every group's keys and values repeated by hand, a network without groups answers the same."""
    text = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    grouped = _network(tmp_path / "grouped", Shape(text=text | {"num_key_value_heads": 2}))
    plain = meta_network(read_config(write_checkpoint(tmp_path / "plain", Shape(text=text))))
    state = grouped.state_dict()
    for name in [name for name in state if "k_proj" in name or "v_proj" in name]:
        state[name] = state[name].unflatten(0, (2, 8)).repeat_interleave(2, dim=0).flatten(0, 1)
    plain.load_state_dict(state, assign=True)
    image, ids = torch.randint(0, 256, (28, 28, 3), dtype=torch.uint8), torch.tensor([1, 5, 7, 29871])
    one, other = generate(grouped, image, ids, count=7), generate(plain, image, ids, count=7)
    assert torch.equal(one.tokens, other.tokens)
    assert torch.allclose(one.logprobs, other.logprobs, atol=1e-4)


def test_the_mask_may_let_every_token_see_every_other(tmp_path: Path) -> None:
    """What OFT needs: with all places open, the first hidden state depends on the last token."""
    llama = _network(tmp_path, Shape()).language_model
    ids = torch.tensor([[1, 5, 7, 9], [1, 5, 7, 10]])
    positions, everywhere = torch.arange(4)[None].expand(2, -1), torch.ones(4, 4, dtype=torch.bool)
    both_ways, _ = llama(llama.embed(ids), positions=positions, mask=everywhere)
    causal, _ = llama(llama.embed(ids), positions=positions, mask=everywhere.tril())
    assert not torch.allclose(both_ways[0, 0], both_ways[1, 0])
    assert torch.equal(causal[0, 0], causal[1, 0])


def test_pixels_are_normalised_as_the_processor_does() -> None:
    image = torch.randint(0, 256, (1, 4, 5, 3), dtype=torch.uint8)
    means, stds = ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5)), ((0.2, 0.3, 0.4), (0.5, 0.25, 0.125))
    found = Normalise(means, stds)(image)
    assert found.shape == (1, 6, 4, 5)
    byte = int(image[0, 2, 3, 1])
    assert float(found[0, 4, 2, 3]) == pytest.approx((byte / 255 - 0.5) / 0.25, abs=1e-6)
    assert float(found[0, 1, 2, 3]) == pytest.approx((byte / 255 - 0.2) / 0.3, abs=1e-6)


def test_one_by_one_the_original_s_tokens_are_reproduced(tiny: OpenVlaPolicy, reference: Reference) -> None:
    found = tiny.answers({name: torch.from_numpy(value) for name, value in reference.inputs.items()})
    action, tokens, is_action, logprobs, entropies = found
    assert tokens.tolist() == reference.tokens.tolist()
    assert abs(action[:, 0].double().numpy() - reference.actions).max() < 1e-6
    assert bool((is_action == 1).all())
    assert bool((logprobs <= 0).all())
    assert bool((entropies >= 0).all())
