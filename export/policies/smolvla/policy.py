"""Opens a SmolVLA checkpoint as LeRobot saves it, of either generation, for `publish`.

The network answers in float32 whatever precision the language model was trained in. The instruction ends with a new line, as
LeRobot makes it; noise comes over the wire, so that the same noise gives the same chunk.
"""

from pathlib import Path

import torch
from tokenizers import Tokenizer

from export.contract.facts import Instruction, Noise
from export.contract.tokenize import InstructionTokenizer
from export.policies.adapter import CheckpointError, CheckpointOptions, Policy
from export.policies.lerobot.facts import Facts, gather
from export.policies.lerobot.layout import CONFIG_FILE, STATE, WEIGHTS_FILE, Weights, load, read_json, read_settings, read_tensors
from export.policies.lerobot.named import INSTRUCTION_TENSOR, NOISE_TENSOR
from export.policies.lerobot.normalisation import (
    PREPROCESSOR_FILE,
    Normalisation,
    network_weights,
    pipeline_steps,
    read_normalisation,
    with_true_state,
)
from export.policies.lerobot.policy import EXAMPLES, LeRobotPolicy
from export.policies.smolvla.graph import SmolVla, Wire
from export.policies.smolvla.network import FlowMatching, Layout
from export.policies.smolvla.settings import (
    MARKS,
    TOKENIZER_FILE,
    SmolVlaSettings,
    layout_of,
    read_vlm,
    refuse,
    vlm_folder,
)

FAMILY, MODEL = "smolvla", "model."
MAX_CHARS = 256
# Of the language model only what a prefix needs: nothing is generated, so its last norm and its head say nothing.
_UNUSED = ("vlm_with_expert.vlm.lm_head.", "vlm_with_expert.vlm.model.text_model.norm.")
_SENTENCES = ("pick up the red cube", "open the drawer", "Fold the towel, then put it on the shelf.", "x")


def open_checkpoint(options: CheckpointOptions) -> Policy:
    """Reads everything once. Raises CheckpointError."""
    folder = options.checkpoint
    settings = read_settings(folder, FAMILY, SmolVlaSettings)
    vlm = vlm_folder(folder, settings)
    stored = read_tensors(folder / WEIGHTS_FILE)
    settings = with_true_state(folder, settings, stored)
    refuse(folder / CONFIG_FILE, settings)
    scalings = read_normalisation(folder, settings, stored)
    facts = gather(options, settings, scalings, are_cameras_known=False)
    weights = {
        name.removeprefix(MODEL): tensor
        for name, tensor in network_weights(stored).items()
        if not name.removeprefix(MODEL).startswith(_UNUSED)
    }
    tokenizer = _tokenizer(vlm / TOKENIZER_FILE)
    flow = _network(folder / WEIGHTS_FILE, weights, _layout(folder, settings, weights, vlm=vlm, tokenizer=tokenizer))
    instruction = _instruction(folder, settings, tokenizer)
    words = InstructionTokenizer(vlm, instruction)
    ids = torch.stack([torch.from_numpy(words.ids(_SENTENCES[index % len(_SENTENCES)])) for index in range(EXAMPLES)])
    return LeRobotPolicy(
        facts=facts,
        network=SmolVla(flow, _wire(facts, settings, scalings, instruction)).eval(),
        description=_description(facts, settings),
        instruction=instruction,
        noise=Noise(tensor=NOISE_TENSOR, shape=(settings.chunk_size, settings.max_action_dim)),
        words=ids,
        beside={TOKENIZER_FILE: vlm / TOKENIZER_FILE},
    )


def _network(path: Path, weights: Weights, layout: Layout) -> FlowMatching:
    with torch.device("meta"):
        flow = FlowMatching(layout)
    load(flow, weights, path)
    return flow


def _layout(folder: Path, settings: SmolVlaSettings, weights: Weights, *, vlm: Path, tokenizer: Tokenizer) -> Layout:
    marks = None
    if settings.add_image_special_tokens:
        around, whole = (tokenizer.token_to_id(mark) for mark in MARKS)
        if around is None or whole is None:
            raise CheckpointError(f"{vlm / TOKENIZER_FILE}: lacks {MARKS[0]} or {MARKS[1]}: not the tokenizer of this policy")
        marks = (around, whole)
    try:
        layout = layout_of(settings, read_vlm(vlm), weights, marks)
    except KeyError as missing:
        raise CheckpointError(f"{folder / WEIGHTS_FILE}: lacks {missing.args[0]}: no SmolVLA is in it") from None
    if tokenizer.get_vocab_size() > layout.vocabulary:
        words = tokenizer.get_vocab_size()
        raise CheckpointError(f"{vlm / TOKENIZER_FILE}: has {words} tokens, the policy {layout.vocabulary}: not its tokenizer")
    return layout


def _tokenizer(path: Path) -> Tokenizer:
    if not isinstance(read_json(path).get("model"), dict):
        raise CheckpointError(f"{path}: not a tokenizer")
    return Tokenizer.from_file(str(path))


def _instruction(folder: Path, settings: SmolVlaSettings, tokenizer: Tokenizer) -> Instruction:
    """Padding is never seen by the network, so any id that no text becomes will do: the first special one."""
    if (folder / PREPROCESSOR_FILE).exists():
        _refuse_other_words(folder, settings)
    special = sorted(index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special)
    free = [index for index in special if index not in tokenizer.encode("").ids]
    if not free:
        raise CheckpointError(f"{TOKENIZER_FILE}: has no special token to pad with: not SmolVLM2's tokenizer")
    return Instruction(
        template="{instruction}\n",
        lowercase=False,
        tokenizer_file=TOKENIZER_FILE,
        append_id=None,
        max_tokens=settings.tokenizer_max_length,
        buckets=(settings.tokenizer_max_length,),
        pad_id=free[0],
        max_chars=MAX_CHARS,
        tensor=INSTRUCTION_TENSOR,
    )


def _refuse_other_words(folder: Path, settings: SmolVlaSettings) -> None:
    """The saved pipeline must tokenise as the configuration says."""
    steps = pipeline_steps(folder, PREPROCESSOR_FILE)
    tokenizer = steps.get("tokenizer_processor", {}).get("config", {})
    if "smolvla_new_line_processor" not in steps or tokenizer.get("max_length") != settings.tokenizer_max_length:
        raise CheckpointError(
            f"{folder / PREPROCESSOR_FILE}: does not tokenise as {CONFIG_FILE} says: tokenizer_max_length, new line"
        )
    if tokenizer.get("padding_side") != "right":
        raise CheckpointError(
            f"{folder / PREPROCESSOR_FILE}: pads on the {tokenizer.get('padding_side')}, this network on the right"
        )


def _wire(facts: Facts, settings: SmolVlaSettings, scalings: Normalisation, instruction: Instruction) -> Wire:
    return Wire(
        cameras={camera.tensor: scalings.inputs[key] for key, camera in facts.cameras_by_key().items()},
        side=settings.side,
        pad_id=instruction.pad_id,
        state=scalings.inputs[STATE],
        action=scalings.action,
        action_size=settings.action_size,
    )


def _description(facts: Facts, settings: SmolVlaSettings) -> str:
    return (
        f"LeRobot SmolVLA: {len(facts.cameras())} camera(s), {settings.num_steps} flow steps from noise to chunks of"
        f" {settings.chunk_size} actions, of which {settings.n_action_steps} were meant to be executed before the next request."
    )
