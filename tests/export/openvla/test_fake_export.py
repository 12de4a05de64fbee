"""The exporter needs no weights to draw the graphs: names and shapes of a real checkpoint, and nothing allocated."""

from pathlib import Path

import pytest
import torch

from export.policies.openvla.config import read_config
from export.policies.openvla.fake_export import measure
from tests.export.openvla_checkpoint import Shape, published_shapes, write_checkpoint

pytestmark = pytest.mark.export


def test_fake_weights_give_graphs_with_the_published_weights(tmp_path: Path) -> None:
    tower = {"kind": "siglip", "embed_dim": 16, "depth": 2, "num_heads": 2}
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    shape = Shape(towers=(tower,), text=text)
    row = next(measure(read_config(write_checkpoint(tmp_path, shape)), dtype=torch.bfloat16))
    published = published_shapes(shape)
    assert {name: size for name, size in row.weights.items() if name in published} == {
        name: published[name] for name in row.weights if name in published
    }
    assert "vision_backbone.featurizer.patch_embed.proj.weight" in row.weights
    assert not any("blocks.1." in name for name in row.weights)  # the last block is never run
    assert row.weight_gb * 1e9 >= 2 * 32064 * 16  # the embedding alone, in bf16
