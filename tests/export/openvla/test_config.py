"""A checkpoint's config becomes frozen facts, with the original's defaults, and one line when it cannot."""

import json
import os
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


TOWER = {"kind": "siglip", "embed_dim": 24, "depth": 3, "num_heads": 3}
NAN = float("nan")


def _refused(folder: Path, said: str, **changes: Any) -> None:
    with pytest.raises(CheckpointError) as refused:
        _read(folder, **changes)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("text", [[1], "llama", 3, True])
@pytest.mark.parametrize("key", ["text_config", "rope_parameters"])
def test_a_part_that_is_no_object_is_named(tmp_path: Path, key: str, text: object) -> None:
    changes = {key: text} if key == "text_config" else {"text_config": {key: text}}
    _refused(tmp_path, f"{key} is {text!r}, it must be an object", **changes)


@pytest.mark.parametrize("value", [None, "x", NAN, -1e-6, 0, True, [1], 10**400])
@pytest.mark.parametrize("key", ["rms_norm_eps", "rope_theta"])
def test_a_factor_that_is_no_number_is_named(tmp_path: Path, key: str, value: object) -> None:
    _refused(tmp_path, f"text_config.{key} is ", text_config={key: value})
    if key == "rope_theta":
        _refused(tmp_path, "rope_parameters.rope_theta is ", text_config={"rope_parameters": {key: value}})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text_config": {"hidden_size": 10**12}}, "hidden_size is 1000000000000, it must be a whole number from 1 to 1,000,000"),
        (
            {"text_config": {"num_hidden_layers": 10**9}},
            "num_hidden_layers is 1000000000, it must be a whole number from 1 to 1,000",
        ),
        ({"text_config": {"vocab_size": 10**8}}, "a whole number from 1 to 10,000,000"),
        ({"text_config": {"hidden_size": 96, "num_attention_heads": 32}}, "need it even"),
        ({"text_config": {"model_type": ["llama"]}}, "language model ['llama']"),
        ({"n_action_bins": 1}, "n_action_bins is 1, it must be a whole number from 2"),
        ({"n_action_bins": 10**4000}, "n_action_bins is 1000"),
        ({"use_fused_vision_backbone": "yes"}, "use_fused_vision_backbone is 'yes', it must be true or false"),
        ({"timm_override_act_layers": [3, 4]}, "timm_override_act_layers is [3, 4]"),
        *(({"timm_model_ids": ids}, "timm_model_ids is") for ids in ([1, 2], {"a": 1}, "vit", [None, None], [])),
        *(
            ({"image_sizes": sizes}, "image_sizes is")
            for sizes in (-28, 0, 28.5, [[224], [224]], [None, None], [True, True], "224", {"a": 1}, [-28, -28], 10**9, [])
        ),
        *(({"vision_towers": towers}, "vision_towers is") for towers in (["x"], "x", {"a": 1}, [None, None])),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_value_that_no_network_has_is_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    _refused(tmp_path, said, **changes)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("embed_dim", value) for value in ("x", None, -24, 0, 2.5, 10**12)),
        *(("num_heads", value) for value in (0, -3, "x", None)),
        *(("depth", value) for value in (10**9, "x", None, -1)),
        *(("mlp_ratio", value) for value in ("x", -1, NAN, None, 1e9)),
        *(("patch_size", value) for value in ("a", -14, 0, 1.5)),
    ],
)
def test_a_tower_s_dimension_that_is_none_is_named(tmp_path: Path, key: str, value: object) -> None:
    _refused(tmp_path, f"vision_towers.{key} is {value!r}", vision_towers=[TOWER | {key: value}] * 2)


@pytest.mark.parametrize(
    ("preprocessor", "said"),
    [
        *(({"means": means}, "means is") for means in ("0.5", [0.5, 0.5, 0.5], [None, None], {"a": 1}, [])),
        *(
            ({"means": [mean] * 2}, "it must be three finite numbers")
            for mean in (["0.5"] * 3, [None] * 3, [[0.5] * 3] * 3, [NAN] * 3)
        ),
        ({"stds": [["1"] * 3] * 2}, "it must be three finite numbers"),
        *(({"stds": [[1.0, std, 1.0]] * 2}, "pixels are divided by it") for std in (0, 0.0, -0.5, 1e-300)),
        *(({"tvf_normalize_params": stored}, "tvf_normalize_params is") for stored in ("x", ["x"], {"a": 1}, 3)),
        ({"tvf_normalize_params": [{}, {}]}, "is None, it must be three finite numbers"),
        *(
            ({"tvf_do_letterbox": True, "tvf_letterbox_fill": fill}, "from 0 to 255")
            for fill in ([300, 0, 0], [1.5, 0, 0], [-1, 0, 0])
        ),
        ({"tvf_do_letterbox": True, "tvf_letterbox_fill": "abc"}, "is 'abc', it must be three finite numbers"),
        ({"tvf_do_letterbox": True, "means": [[2.0] * 3] * 2}, "from 0 to 255"),
        ({"tvf_do_letterbox": "no"}, "it must be true or false"),
        ({"image_resize_strategy": ["letterbox"]}, "image_resize_strategy ['letterbox']"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_preprocessor_that_makes_no_pixels_is_named(tmp_path: Path, preprocessor: dict[str, Any], said: str) -> None:
    _refused(tmp_path, said, preprocessor=preprocessor)


def test_nesting_without_end_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"a": ' + "[" * 200_000)
    with pytest.raises(CheckpointError, match="nested too deeply"):
        read_config(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(CheckpointError, match="not a file"):
        read_config(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '"config"'])
def test_a_broken_config_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="download it again"):
        read_config(tmp_path)


def test_a_folder_without_a_config_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="give the folder of a downloaded checkpoint"):
        read_config(tmp_path)
