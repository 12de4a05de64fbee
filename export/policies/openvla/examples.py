"""The frozen set of pictures and instructions on which every graph of an OpenVLA policy is compared with the original.

Made from a seed, the same every time: squares of colour, coarse and fine, because they compress to little and reach every patch.
It knows no network. Called by `policy`; the OFT family asks the same questions.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from export.contract.facts import Camera, Instruction
from export.contract.preprocess import resize
from export.contract.tokenize import InstructionTokenizer

INSTRUCTIONS = (
    "pick up red cube",
    "Pick up the BLUE cube and put it on the green plate",
    "open the drawer",
    "close the top drawer of the cabinet",
    "put the spoon in the pot, then move the pot to the left burner",
    "wipe",
    "place 2 carrots in the bowl on the right",
    "turn the tap 90° clockwise",
)
_SIDES = ((8, 8), (4, 6), (16, 16), (1, 1), (3, 2), (12, 9), (2, 8), (6, 6))


def frozen_examples(folder: Path, *, camera: Camera, instruction: Instruction, keys: int) -> dict[str, Tensor]:
    """Eight pictures × eight instructions = 64 rows by tensor name, with the un-normalisation keys in turn."""
    tokenizer = InstructionTokenizer(folder, instruction)
    pictures = np.stack([resize(picture, camera) for picture in _pictures()])
    ids = np.stack([tokenizer.ids(text) for text in INSTRUCTIONS])
    rows = np.arange(len(pictures) * len(ids))
    return {
        camera.tensor: torch.from_numpy(pictures[rows // len(ids)]),
        instruction.tensor: torch.from_numpy(ids[rows % len(ids)]),
        "unnorm_index": torch.from_numpy((rows % keys)[:, None]),
    }


def _pictures() -> list[Image.Image]:
    random = np.random.default_rng(7)
    return [Image.fromarray(_coarse(random, *sides)).resize((320, 240), Image.Resampling.NEAREST) for sides in _SIDES]


def _coarse(random: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)
