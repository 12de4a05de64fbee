"""The raw bytes that warm a policy up with a real example instead of zeros: `warmup/<tensor>` in the bundle.

For token policies an all-zero prompt is no prompt, and of another length than what will come. Triton reads one example and
repeats it for every warm-up batch. Used by `publish`; it opens no file.
"""

import numpy as np

from export.parity import Arrays
from export.triton_config.config import TritonConfig, WarmupData

FOLDER = "warmup"


def warmup_files(config: TritonConfig, examples: Arrays) -> dict[str, bytes]:
    """Path within the bundle → bytes of the first example, for each input; empty where the config warms up with zeros."""
    if not any(warmup.data is WarmupData.FILES for warmup in config.warmups):
        return {}
    return {f"{FOLDER}/{tensor.name}": np.ascontiguousarray(examples[tensor.name][0]).tobytes() for tensor in config.inputs}
