"""LeRobot's own answers, for `tests/fixtures/{act,smolvla}_tiny*`: `make oracles-lerobot` runs these in their own environment.

Importing this package lets torchvision's CUDA build be imported beside a CPU-only torch, before LeRobot does: it defines the two
operators whose library is missing.
"""

import torch

LIBRARY = torch.library.Library("torchvision", "FRAGMENT")

if torch.version.cuda is None:
    for operator in ("nms", "qnms"):
        LIBRARY.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
