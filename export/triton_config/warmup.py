"""The raw bytes that warm a policy up with a real example instead of zeros: `warmup/<tensor>` in the bundle.

For token policies an all-padding prompt is no prompt. Used by whoever publishes with `WarmupData.FILES`; Triton reads one example
and repeats it for every warm-up batch. It opens no file.
"""

import numpy as np

from export.parity import Arrays

FOLDER = "warmup"


def warmup_files(example: Arrays) -> dict[str, bytes]:
    """Path within the bundle → bytes, of one example with a batch dimension of 1. Raises ValueError for more than one."""
    if wrong := {name: value.shape for name, value in example.items() if value.shape[:1] != (1,)}:
        raise ValueError(f"a warm-up is one example, not {wrong}")
    return {f"{FOLDER}/{name}": np.ascontiguousarray(value).tobytes() for name, value in example.items()}
