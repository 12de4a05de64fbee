"""Freezes what LeRobot's own SmolVLA answers: writes `tests/fixtures/smolvla_tiny` (0.4.4) or `smolvla_tiny_old` (0.3.3).

    python -m tests.export.oracles.lerobot.smolvla tests/fixtures

The language model is a SmolVLM2 of transformers' own classes with random float32 weights and a tokenizer trained here on a few
sentences. transformers is 4.54.1: from 4.55 on the places of patches are shifted by one in float32 (its issue 41190).
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from tests.export.oracles.lerobot.inputs import (
    IS_OLD,
    Observation,
    freeze_answers,
    observations,
    randomise,
    save,
    statistics,
    tensors,
)

COUNT = 4
SENTENCES = ["pick up the red cube", "Open the top drawer!", "fold the towel and put it on the shelf, please", "go\n"]
SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
]
NEW = {
    "input_features": {
        "observation.images.camera1": PolicyFeature(FeatureType.VISUAL, (3, 32, 32)),
        "observation.images.camera2": PolicyFeature(FeatureType.VISUAL, (3, 32, 32)),
        "observation.images.camera3": PolicyFeature(FeatureType.VISUAL, (3, 32, 32)),
        "observation.state": PolicyFeature(FeatureType.STATE, (6,)),
    },
    "output_features": {"action": PolicyFeature(FeatureType.ACTION, (6,))},
    "chunk_size": 5,
    "n_action_steps": 4,
    "num_steps": 3,
    "num_vlm_layers": 2,
    "tokenizer_max_length": 48,
}
# (height, width) of what the robot has: fine-tuning keeps the sizes and cameras of the policy that it started from.
SIZES = {
    "observation.images.camera1": (48, 80),
    "observation.images.camera2": (90, 60),
}
OLD_SIZES = {"observation.image": (64, 64)}
OLD = {
    "input_features": {
        "observation.image": PolicyFeature(FeatureType.VISUAL, (3, 64, 64)),
        "observation.state": PolicyFeature(FeatureType.STATE, (7,)),
    },
    "output_features": {"action": PolicyFeature(FeatureType.ACTION, (5,))},
    "normalization_mapping": {
        "VISUAL": NormalizationMode.IDENTITY,
        "STATE": NormalizationMode.MIN_MAX,
        "ACTION": NormalizationMode.MEAN_STD,
    },
    "chunk_size": 6,
    "n_action_steps": 6,
    "num_steps": 4,
    "tokenizer_max_length": 24,
    "add_image_special_tokens": True,
    "empty_cameras": 2,
    "pad_language_to": "max_length",
    "prefix_length": 96,
    "num_vlm_layers": 4,
}
SMALL = {
    "resize_imgs_with_padding": (64, 64),
    "max_state_dim": 8,
    "max_action_dim": 8,
    "num_expert_layers": 0,
    "expert_width_multiplier": 0.75,
    "self_attn_every_n_layers": 2,
    "load_vlm_weights": False,
    "device": "cpu",
}
TEXT = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_hidden_layers": 5,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100000.0,
    "tie_word_embeddings": False,
    "pad_token_id": 2,
}
VISION = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "patch_size": 8,
    "image_size": 64,
    "model_type": "smolvlm_vision",
}


def main() -> None:
    """Writes the fixture of the LeRobot that is installed."""
    folder = Path(sys.argv[1]) / ("smolvla_tiny_old" if IS_OLD else "smolvla_tiny")
    write_vlm(folder / "vlm")
    freeze(folder, (OLD if IS_OLD else NEW) | SMALL, OLD_SIZES if IS_OLD else SIZES)


def write_vlm(folder: Path) -> None:
    """Configuration, tokenizer and processor of a tiny SmolVLM2, as its repository has them."""
    tokenizer = _tokenizer()
    words = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|im_end|>",
        extra_special_tokens={
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
    )
    size = tokenizer.get_vocab_size()
    SmolVLMProcessor(SmolVLMImageProcessor(), words, SmolVLMVideoProcessor(), image_seq_len=4).save_pretrained(folder)
    text = TEXT | {"vocab_size": size + 3}
    SmolVLMConfig(vision_config=VISION, text_config=text, scale_factor=4, image_token_id=3).save_pretrained(folder)


def freeze(folder: Path, settings: dict[str, Any], sizes: dict[str, tuple[int, int]]) -> None:
    """A checkpoint of random weights in `folder`, and `answers.npz` beside it: inputs, noise, chunks, first actions."""
    torch.manual_seed(3)
    config = SmolVLAConfig(**settings, vlm_model_name=str(folder / "vlm"))
    random = np.random.default_rng(11)
    shapes = {key: one.shape for key, one in {**config.input_features, **config.output_features}.items()}
    scales = statistics(random, shapes)
    policy = SmolVLAPolicy(config, **({"dataset_stats": scales} if IS_OLD else {}))
    randomise(policy.model, 5)
    _sharpen(policy)
    policy.eval()
    pipelines = None if IS_OLD else _pipelines(config, scales)
    save(policy, folder, pipelines, sizes)
    seen = observations(random, config, scales, COUNT, sizes)
    noise = random.standard_normal((COUNT, config.chunk_size, config.max_action_dim)).astype(np.float32)
    found = [ask(policy, pipelines, seen, row, noise=torch.from_numpy(noise[row : row + 1])) for row in range(COUNT)]
    chunks, firsts = (np.stack([answer[part] for answer in found]) for part in (0, 1))
    (folder / "sentences.json").write_text(json.dumps(SENTENCES, indent=2) + "\n")
    freeze_answers(folder, seen | {"noise": noise, "answer.chunk": chunks, "answer.first": firsts})


def ask(policy: Any, pipelines: Any, seen: Observation, row: int, *, noise: torch.Tensor) -> tuple[Any, Any]:
    """The whole chunk, and what `select_action` gives first, in physical units."""
    policy.reset()

    def fresh() -> dict[str, Any]:
        return tensors(seen, row) | {"task": SENTENCES[row]}

    if pipelines is None:
        chunk = policy.predict_action_chunk(fresh(), noise=noise.clone())  # 0.3 writes into it
        return chunk[0].numpy(), policy.select_action(fresh(), noise=noise.clone())[0].numpy()
    before, after = pipelines
    chunk = after(policy.predict_action_chunk(before(fresh()), noise=noise))
    return chunk[0].numpy(), after(policy.select_action(before(fresh()), noise=noise))[0].numpy()


def _sharpen(policy: Any) -> None:
    """Fresh weights attend to everything alike: what the network sees must show in what it answers."""
    for name, value in policy.model.named_parameters():
        if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "modality_projection.proj.weight")):
            value.data *= 5
        if name.endswith(("embed_tokens.weight", "state_proj.weight", "patch_embedding.weight")):
            value.data *= 3


def _tokenizer() -> Tokenizer:
    """Byte-level BPE that splits digits, as SmolVLM2's."""
    tokenizer = Tokenizer(models.BPE())
    splits = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([*SENTENCES, "the red cube", "put it on the shelf"], trainer)
    return tokenizer


def _pipelines(config: SmolVLAConfig, scales: Any) -> tuple[Any, Any]:
    from lerobot.policies.smolvla.processor_smolvla import make_smolvla_pre_post_processors

    return make_smolvla_pre_post_processors(config, dataset_stats=scales)


if __name__ == "__main__":
    main()
