"""Policies for benchmarks only, which stand still: one takes 20 ms a forward for any batch, as on a GPU with room; one none.

The shipped bundle with other names, a camera of 224×224 (as openpi's robots send), one instance and a model that sleeps. No queue
policy: with one and a single instance, this Triton overlooks requests (docs/LOG.md).
"""

import json
import shutil
from pathlib import Path
from string import Template
from typing import Any

POLICY = "twenty_ms"
FORWARD_S = 0.020
AT_ONCE = "at_once"
CLIENTS = 8
QUEUE_DELAY_US = 30_000  # longer than a forward and a round trip: with less, two half batches take turns
_SIDE = 224

_MODEL = '''"""Sleeps for one forward, then answers every request of the batch with a motion that stands still."""

import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        time.sleep($forward_s)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("action", still(request))]) for request in requests]


def still(request):
    count = pb_utils.get_input_tensor_by_name(request, "image").shape()[0]
    return np.zeros((count, 8, 7), np.float32)
'''

_CONFIG = """name: "$name"
backend: "python"
max_batch_size: $most
input { name: "image" data_type: TYPE_UINT8 dims: [$side, $side, 3] }
input { name: "instruction_ids" data_type: TYPE_INT64 dims: [24] }
input { name: "state" data_type: TYPE_FP32 dims: [8] }
input { name: "state_mask" data_type: TYPE_FP32 dims: [1] }
output { name: "action" data_type: TYPE_FP32 dims: [8, 7] }
instance_group { count: 1 kind: KIND_CPU }
dynamic_batching { $batching }
"""
_BATCHING = f"preferred_batch_size: [{CLIENTS}] max_queue_delay_microseconds: {QUEUE_DELAY_US}"


def write_repository(repository: Path, *, shipped: Path) -> Path:
    """A model repository that holds only these two."""
    _write(repository / POLICY, shipped, forward_s=FORWARD_S, batching=_BATCHING)
    _write(repository / AT_ONCE, shipped, forward_s=0.0, batching="")
    return repository


def _write(folder: Path, shipped: Path, *, forward_s: float, batching: str) -> None:
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_text(Template(_MODEL).substitute(forward_s=forward_s))
    config = Template(_CONFIG).substitute(name=folder.name, most=2 * CLIENTS, side=_SIDE, batching=batching)
    (folder / "config.pbtxt").write_text(config)
    shutil.copy(shipped / "tokenizer.json", folder)
    manifest: dict[str, Any] = json.loads((shipped / "manifest.json").read_text())
    manifest["policy"] = folder.name
    manifest["description"] = "Stands still; for benchmarks only."
    manifest["cameras"][0] |= {"width": _SIDE, "height": _SIDE}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))
