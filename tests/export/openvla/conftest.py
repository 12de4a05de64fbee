"""What the tests of OpenVLA share: the reference cases, and graphs that are exported once per session.

The family needs torch, which the application's environment does not have.
"""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    import torch
    from PIL import Image

    from export.contract.preprocess import resize
    from export.contract.tokenize import InstructionTokenizer
    from export.policies.adapter import CheckpointOptions
    from export.policies.openvla import open_checkpoint
    from export.policies.openvla.config import read_config
    from export.policies.openvla.network import OpenVla, meta_network
    from export.policies.openvla.policy import OpenVlaPolicy
    from export.policies.openvla.weights import load
    from export.publish import publish
    from tests.export.openvla_checkpoint import Shape, statistics, write_checkpoint

Arrays = dict[str, NDArray[Any]]


def opened(folder: Path, name: str = "tiny", **options: Any) -> "OpenVlaPolicy":
    """The checkpoint as a policy."""
    return open_checkpoint(CheckpointOptions(checkpoint=folder, name=name, robots=("franka_panda",), **options))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What the original code answered, and the same requests as wire tensors."""

    cases: list[dict[str, Any]]
    inputs: Arrays

    @property
    def tokens(self) -> NDArray[np.int64]:
        """(cases, 7)."""
        return np.array([case["action_tokens"] for case in self.cases])

    @property
    def actions(self) -> NDArray[np.float64]:
        """(cases, 7), in physical units."""
        return np.array([case["action"] for case in self.cases])


@pytest.fixture(scope="session")
def tiny(openvla_tiny: Path) -> "OpenVlaPolicy":
    """The reference checkpoint, opened."""
    return opened(openvla_tiny)


@pytest.fixture(scope="session")
def tiny_network(openvla_tiny: Path) -> "OpenVla":
    """The reference checkpoint's network, in float32."""
    network = meta_network(read_config(openvla_tiny))
    load(network, openvla_tiny, dtype=torch.float32)
    return network


@pytest.fixture(scope="session")
def reference(openvla_tiny: Path, tiny: "OpenVlaPolicy") -> Reference:
    """The 16 cases of `reference.json`, prepared exactly as the control plane prepares a request."""
    cases = json.loads((openvla_tiny / "reference.json").read_text())["cases"]
    facts = tiny.manifest(version=1, sha256={})
    assert facts.instruction is not None
    tokenizer = InstructionTokenizer(openvla_tiny, facts.instruction)
    pictures = [resize(Image.open(openvla_tiny / case["image"]).convert("RGB"), facts.cameras[0]) for case in cases]
    keys = [[facts.action.unnorm_keys.index(case["unnorm_key"])] for case in cases]
    ids = [tokenizer.ids(case["instruction"]) for case in cases]
    return Reference(
        cases=cases,
        inputs={"image": np.stack(pictures), "instruction_ids": np.stack(ids), "unnorm_index": np.array(keys, dtype=np.int64)},
    )


@pytest.fixture(scope="session")
def repository(
    tiny: "OpenVlaPolicy", odd: "OpenVlaPolicy", odd_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model repository, proven: the reference checkpoint as `tiny`, another architecture as `odd`."""
    folder = tmp_path_factory.mktemp("repository")
    publish(tiny, folder, version=1)
    publish(odd, folder, version=1, checkpoint=odd_checkpoint)
    return folder


@pytest.fixture(scope="session")
def tiny_graphs(repository: Path) -> Path:
    """The reference checkpoint's published graphs."""
    return repository / "tiny" / "1"


@pytest.fixture(scope="session")
def odd_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing as published: one letterboxed SigLIP of 42 pixels, grouped heads, five numbers of one key, fp16, three shards."""
    return write_checkpoint(tmp_path_factory.mktemp("odd") / "checkpoint", odd_shape())


def odd_shape(seed: int = 0) -> "Shape":
    """Of another `seed` the weights differ and nothing else."""
    return Shape(
        seed=seed,
        towers=({"kind": "siglip", "embed_dim": 32, "depth": 3, "num_heads": 2, "mlp_ratio": 2.5},),
        image_size=42,
        text={
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-5,
            "rope_theta": 5000.0,
        },
        norm_stats={"only": statistics(5, has_mask=False)},
        preprocessor={"image_resize_strategy": "letterbox", "means": [[0.5, 0.4, 0.3]], "stds": [[0.2, 0.3, 0.4]]},
        dtype=torch.float16,
        shards=3,
    )


@pytest.fixture(scope="session")
def odd(odd_checkpoint: Path) -> "OpenVlaPolicy":
    """That checkpoint, opened."""
    return opened(odd_checkpoint, "odd")
