"""A checkpoint's config becomes frozen facts, with the original's defaults, and one line when it cannot."""

import json
from pathlib import Path
from typing import Any

import pytest

from export.policies.adapter import CheckpointError
from export.policies.openvla.config import OpenVlaConfig, read_config

pytestmark = pytest.mark.export
PUBLISHED: dict[str, Any] = {
    "vision_backbone_id": "dinosiglip-vit-so-224px",
    "image_resize_strategy": "resize-naive",
    "llm_backbone_id": "llama2-7b-pure",
    "text_config": {"model_type": "llama", "pad_token_id": 32000, "vocab_size": 32064},
}


def _read(folder: Path, *, preprocessor: dict[str, Any] | None = None, **changes: Any) -> OpenVlaConfig:
    (folder / "config.json").write_text(json.dumps(PUBLISHED | changes))
    if preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return read_config(folder)


def test_the_published_config_gets_the_original_s_defaults(tmp_path: Path) -> None:
    config = _read(tmp_path)
    dino, siglip = config.towers
    assert (dino.embed_dim, dino.depth, dino.num_heads, dino.mlp_dim, dino.prefix_tokens) == (1024, 24, 16, 4096, 5)
    assert (siglip.embed_dim, siglip.depth, siglip.num_heads, siglip.mlp_dim, siglip.prefix_tokens) == (1152, 27, 16, 4304, 0)
    text = config.text
    assert (text.hidden_size, text.intermediate_size, text.num_hidden_layers, text.num_attention_heads) == (4096, 11008, 32, 32)
    assert (text.num_key_value_heads, text.rms_norm_eps, text.rope_theta) == (32, 1e-6, 10000.0)
    assert (config.patches, config.vision_dim, config.action_vocab, config.n_action_bins) == (256, 2176, 32000, 256)


@pytest.mark.parametrize(
    ("backbone", "size", "patches", "width"),
    [
        ("siglip-vit-so400m", 224, 256, 1152),
        ("siglip-vit-so400m-384px", 384, 729, 1152),
        ("siglip-vit-b16-256px", 256, 256, 768),
        ("dinov2-vit-l", 224, 256, 1024),
        ("clip-vit-l-336px", 336, 576, 1024),
        ("in1k-vit-l", 224, 196, 1024),
        ("dinoclip-vit-l-336px", 336, 576, 2048),
        ("dinosiglip-vit-so-384px", 384, 729, 2176),
    ],
)
def test_prismatic_s_backbones_are_known_by_name(tmp_path: Path, backbone: str, size: int, patches: int, width: int) -> None:
    config = _read(tmp_path, vision_backbone_id=backbone)
    assert (config.image_size, config.patches, config.vision_dim) == (size, patches, width)


def test_a_config_may_name_two_towers_and_use_one(tmp_path: Path) -> None:
    config = _read(tmp_path, use_fused_vision_backbone=False)
    assert [tower.timm_id for tower in config.towers] == ["vit_large_patch14_reg4_dinov2.lvd142m"]


def test_standard_timm_ids_of_other_sizes_are_known(tmp_path: Path) -> None:
    ids = ["vit_small_patch14_reg4_dinov2.lvd142m", "vit_base_patch16_siglip_224"]
    dino, siglip = _read(tmp_path, timm_model_ids=ids, image_sizes=[96, 96]).towers
    assert (dino.embed_dim, dino.num_heads, dino.patches) == (384, 6, 36)
    assert (siglip.embed_dim, siglip.patch_size, siglip.patches) == (768, 16, 36)


def test_what_the_processor_stored_wins_over_what_it_was_built_from(tmp_path: Path) -> None:
    stored = [{"mean": [0.1, 0.2, 0.3], "std": [1.0, 1.0, 1.0]}] * 2
    preprocessor = {"means": [[0.5] * 3] * 2, "stds": [[0.5] * 3] * 2, "tvf_normalize_params": stored}
    config = _read(tmp_path, preprocessor=preprocessor)
    assert config.pictures.means == ((0.1, 0.2, 0.3),) * 2


def test_a_letterbox_is_filled_with_the_last_tower_s_mean(tmp_path: Path) -> None:
    preprocessor = {"image_resize_strategy": "letterbox", "means": [[0.48, 0.45, 0.4], [0.5, 0.25, 0.1]], "stds": [[0.5] * 3] * 2}
    assert _read(tmp_path, preprocessor=preprocessor).pictures.letterbox_fill == (127, 63, 25)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vision_backbone_id": "eva-vit-g"}, "unknown vision backbone 'eva-vit-g'"),
        ({"timm_model_ids": ["resnet50", "vit_so400m_patch14_siglip_224"]}, "unknown vision backbone 'resnet50'"),
        ({"timm_model_ids": ["vit_giant_patch14_reg4_dinov2.lvd142m"] * 2}, "unknown vision backbone"),
        ({"timm_model_ids": ["vit_large_patch14_dinov2"], "use_fused_vision_backbone": True}, "2 vision towers"),
        ({"image_sizes": [224, 384]}, "both towers must see the same picture"),
        ({"timm_override_act_layers": ["relu", None]}, "activation 'relu'"),
        ({"image_resize_strategy": "resize-crop"}, "'resize-crop' is not supported"),
        ({"text_config": {"model_type": "phi"}}, "language model 'phi'"),
        ({"text_config": {"rope_scaling": {"type": "linear", "factor": 2.0}}}, "rope_scaling"),
        ({"text_config": {"hidden_act": "gelu"}}, "hidden_act"),
        ({"text_config": {"tie_word_embeddings": True}}, "tie_word_embeddings"),
        ({"text_config": {"num_attention_heads": 7}}, "do not divide"),
        ({"text_config": {"hidden_size": "big"}}, "hidden_size is 'big'"),
        ({"n_action_bins": 0}, "n_action_bins is 0"),
        ({"vision_towers": [{"kind": "siglip"}, {"kind": "siglip"}]}, "unknown vision backbone"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_built_is_one_line(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError) as refused:
        _read(tmp_path, **changes)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '"config"'])
def test_a_broken_config_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="download it again"):
        read_config(tmp_path)


def test_a_folder_without_a_config_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="give the folder of a downloaded checkpoint"):
        read_config(tmp_path)
