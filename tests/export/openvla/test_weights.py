"""Published files fill the network as they are, and every way in which they can be wrong is one line that names it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from export.policies.adapter import CheckpointError
from export.policies.openvla.config import read_config
from export.policies.openvla.network import OpenVla, meta_network
from export.policies.openvla.weights import load
from tests.export.openvla_checkpoint import Shape, random_weights, write_checkpoint, write_weights

pytestmark = pytest.mark.export
SHAPE = Shape(shards=3)
LAST_SHARD = "model-00003-of-00003.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path, SHAPE)


def _loaded(folder: Path, *, dtype: torch.dtype | None = None) -> OpenVla:
    network = meta_network(read_config(folder))
    load(network, folder, dtype=dtype)
    return network


def _refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        _loaded(folder)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def _change(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    """Replaces one tensor of the checkpoint, or takes it out."""
    weights = random_weights(SHAPE)
    del weights[name]
    if tensor is not None:
        weights[name] = tensor
    write_weights(folder, weights, shards=SHAPE.shards)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shards", [1, 4])
def test_every_tensor_arrives_as_stored(tmp_path: Path, dtype: torch.dtype, shards: int) -> None:
    shape = replace(SHAPE, dtype=dtype, shards=shards)
    state = _loaded(write_checkpoint(tmp_path, shape)).state_dict()
    written = random_weights(shape)
    assert state.keys() == written.keys()
    assert all(state[name].dtype == dtype and torch.equal(state[name], tensor) for name, tensor in written.items())


def test_weights_are_converted_on_request_only(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, replace(SHAPE, dtype=torch.bfloat16))
    found = _loaded(folder, dtype=torch.float32).state_dict()
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}


def test_weights_stay_in_the_file(folder: Path) -> None:
    """Every tensor lies in a mapping of its shard, so loading takes no memory of its own."""
    state = _loaded(folder).state_dict()
    mapped = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line]
    ranges = [tuple(int(end, 16) for end in line[0].split("-")) for line in mapped]
    outside = [name for name, tensor in state.items() if not any(low <= tensor.data_ptr() < high for low, high in ranges)]
    assert outside == []


def test_a_derived_buffer_of_older_files_is_passed_over(folder: Path) -> None:
    weights = random_weights(SHAPE) | {"language_model.model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    write_weights(folder, weights, shards=SHAPE.shards)
    _loaded(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / LAST_SHARD).unlink()
    assert f"{LAST_SHARD} missing" in _refusal(folder)


def test_a_checkpoint_without_safetensors_is_refused(folder: Path) -> None:
    for path in folder.glob("model*"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    assert "model.safetensors missing" in _refusal(folder)


@pytest.mark.parametrize("kept", [0, 4, 40, 20_000], ids=lambda kept: f"{kept} bytes")
def test_a_truncated_shard_is_named(folder: Path, kept: int) -> None:
    data = (folder / LAST_SHARD).read_bytes()
    (folder / LAST_SHARD).write_bytes(data[:kept])
    assert f"{LAST_SHARD}: truncated or damaged" in _refusal(folder)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    _change(folder, "projector.fc3.bias", None)
    assert "lacks projector.fc3.bias" in _refusal(folder)


def test_an_unexpected_tensor_is_named(folder: Path) -> None:
    write_weights(folder, random_weights(SHAPE) | {"language_model.model.extra": torch.ones(1)}, shards=3)
    assert "has unknown language_model.model.extra" in _refusal(folder)


def test_timm_s_own_name_of_a_layer_scale_is_not_the_published_one(folder: Path) -> None:
    weights = {name.replace("scale_factor", "gamma"): tensor for name, tensor in random_weights(SHAPE).items()}
    write_weights(folder, weights, shards=3)
    assert "scale_factor" in _refusal(folder)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(folder: Path) -> None:
    _change(folder, "projector.fc3.bias", torch.zeros(31))
    assert "projector.fc3.bias: has shape (31,), config.json makes it (32,)" in _refusal(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_no_number_is_named(folder: Path, value: float) -> None:
    name = "language_model.model.layers.1.mlp.down_proj.weight"
    tensor = random_weights(SHAPE)[name].clone()
    tensor[3, 5] = value
    _change(folder, name, tensor)
    assert f"{name}: holds NaN or infinity" in _refusal(folder)


def test_whole_numbers_are_no_weights(folder: Path) -> None:
    _change(folder, "projector.fc3.bias", torch.zeros(32, dtype=torch.int8))
    assert "projector.fc3.bias: is torch.int8" in _refusal(folder)


def test_an_index_without_a_map_is_refused(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("{}")
    assert "has no weight_map" in _refusal(folder)


def test_an_index_cannot_point_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["projector.fc3.bias"] = "../elsewhere.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file(load_file(folder / LAST_SHARD), tmp_path.parent / "elsewhere.safetensors")
    assert "elsewhere.safetensors missing" in _refusal(folder)
