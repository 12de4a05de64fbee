"""A published OpenVLA-OFT answers as the original code in batches of any size: in ONNX Runtime and through the real Triton."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from export.contract.manifest import load_manifest
from export.contract.statistics import Bounds
from export.contract.wire import inputs_of, outputs_of
from export.policies.adapter import CheckpointOptions
from export.policies.openvla.config import read_config
from export.policies.openvla.network import meta_network
from export.policies.openvla_oft import open_checkpoint
from export.policies.openvla_oft.heads import ActionHead, ProprioProjector
from export.policies.openvla_oft.network import Oft, Served, Table, Tables
from export.policies.openvla_oft.policy import OftPolicy
from export.precision.rewrite import Precision
from export.publish import publish
from tests.export.openvla_oft_checkpoint import LIBERO, write
from tests.export.openvla_oft_reference import expected, wire
from tests.export.tensorrt.building import build_plans, plan_of

pytestmark = pytest.mark.export
CLOSE = 2e-5


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> OftPolicy:
    folder = tmp_path_factory.mktemp("libero")
    write(LIBERO, folder)
    return open_checkpoint(CheckpointOptions(checkpoint=folder, name="oft-libero", robots=("franka_panda",)))


@pytest.fixture(scope="module")
def bundle(policy: OftPolicy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("published") / "model_repository"
    publish(policy, repository, version=1)
    return repository / "oft-libero"


@pytest.fixture(scope="module")
def session(bundle: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(bundle / "1" / "model.onnx", providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def address(bundle: Path, serve: Callable[[Path], str]) -> str:
    pytest.importorskip("tritonclient")
    return serve(bundle.parent)


def _wire(policy: OftPolicy, robot: str) -> dict[str, Tensor]:
    found = wire(policy.manifest(version=1, sha256={}), policy.facts.options.checkpoint, robot)
    return {name: torch.from_numpy(value) for name, value in found.items()}


def _ask(session: onnxruntime.InferenceSession, inputs: dict[str, Tensor]) -> np.ndarray:
    (answer,) = session.run(["action"], {name: value.numpy() for name, value in inputs.items()})
    return np.asarray(answer)


@pytest.mark.parametrize("rows", [slice(0, 1), slice(3, 8), slice(0, 12)], ids=["one", "five", "all"])
def test_a_batch_of_any_size_answers_as_the_original_one_by_one(
    session: onnxruntime.InferenceSession, policy: OftPolicy, rows: slice
) -> None:
    found = _ask(session, {name: value[rows] for name, value in _wire(policy, "libero").items()})
    assert np.abs(found - expected("libero", "actions")[rows]).max() < CLOSE


def test_the_neighbours_in_a_batch_change_nothing(session: onnxruntime.InferenceSession, policy: OftPolicy) -> None:
    inputs = _wire(policy, "libero")
    alone = [_ask(session, {name: value[[row]] for name, value in inputs.items()})[0] for row in (0, 5, 11)]
    assert np.abs(np.stack(alone) - _ask(session, inputs)[[0, 5, 11]]).max() < CLOSE


def test_the_examples_answer_within_the_tolerance(session: onnxruntime.InferenceSession, policy: OftPolicy) -> None:
    examples = policy.examples()
    (wanted,), (output,) = policy.answers(examples), policy.manifest(version=1, sha256={}).outputs
    assert np.abs(_ask(session, examples) - wanted.numpy()).max() < output.atol / 5


def test_the_graph_takes_and_gives_what_the_manifest_implies(session: onnxruntime.InferenceSession, policy: OftPolicy) -> None:
    manifest = policy.manifest(version=1, sha256={})
    found = {one.name: tuple(one.shape[1:]) for one in (*session.get_inputs(), *session.get_outputs())}
    assert found == {one.name: one.shape for one in (*inputs_of(manifest), *outputs_of(manifest))}
    assert [one.name for one in session.get_inputs()] == [one.name for one in inputs_of(manifest)]


def test_the_graph_branches_nowhere_and_holds_the_weights_once(bundle: Path, policy: OftPolicy) -> None:
    exported = bundle / "1" / "model.onnx"
    graph = onnx.load(exported).graph
    assert not {node.op_type for node in graph.node} & {"If", "Loop", "Scan", "NonZero", "ScatterND"}
    unused = 32064 * 32 * 4  # the vocabulary's head
    assert exported.stat().st_size < sum(value.nbytes for value in policy.network().state_dict().values()) - unused + 500_000


def test_an_index_beyond_the_keys_is_an_error_and_not_another_robots_scale(
    session: onnxruntime.InferenceSession, policy: OftPolicy
) -> None:
    inputs = {name: value[:1] for name, value in _wire(policy, "libero").items()}
    with pytest.raises(Exception, match=r"(?i)out of (data )?bounds|out of range"):
        _ask(session, inputs | {"unnorm_index": torch.tensor([[2]])})


def test_triton_answers_the_golden_vectors(bundle: Path, address: str) -> None:
    from export.served import verify_served  # it needs tritonclient, which the fixture has asked for

    proof = verify_served(bundle, address)
    assert all(one.is_close for one in proof.agreements)


def test_triton_batches_many_callers_and_answers_each_as_the_original(bundle: Path, policy: OftPolicy, address: str) -> None:
    from tritonclient.grpc.aio import InferenceServerClient

    from export.served import ask

    manifest = load_manifest(bundle)
    inputs = {name: value.numpy() for name, value in _wire(policy, "libero").items()}

    async def all_at_once() -> tuple[list[np.ndarray], int]:
        async with InferenceServerClient(address) as client:
            rows = [{name: value[[row]] for name, value in inputs.items()} for row in [*range(12)] * 2]
            found = [answer["action"] for answer in await asyncio.gather(*(ask(client, manifest, row) for row in rows))]
            (statistics,) = (await client.get_inference_statistics(manifest.policy)).model_stats
            return found, max(one.batch_size for one in statistics.batch_stats if one.compute_infer.count)

    for _ in range(8):  # whether Triton joins requests depends on what else the machine is doing
        found, largest_batch = asyncio.run(all_at_once())
        assert np.abs(np.concatenate(found) - np.tile(expected("libero", "actions"), (2, 1, 1))).max() < CLOSE
        if largest_batch > 1:
            break
    assert largest_batch > 1


def test_the_published_7b_shape_fits_together(tmp_path: Path) -> None:
    """openvla-7b-oft-finetuned-libero-*: 4096 wide, two pictures of 256 patches, a head of 28672 → 4096 → 7, on no memory."""
    published = {"vision_backbone_id": "dinosiglip-vit-so-224px", "text_config": {"vocab_size": 32064}}
    (tmp_path / "config.json").write_text(json.dumps(published))
    config = read_config(tmp_path)
    bounds = Bounds(scheme="bounds_q99", low=(0.0,) * 7, high=(1.0,) * 7, mask=(True,) * 7, epsilon=1e-8)
    of_state = bounds.model_copy(update={"low": (0.0,) * 8, "high": (1.0,) * 8, "mask": (True,) * 8})
    with torch.device("meta"):
        oft = Oft(meta_network(config), ActionHead(4096, 7), ProprioProjector(4096, 8), horizon=8)
        served = Served(oft, Tables(action=Table((bounds,)), state=Table((of_state,))))
        picture = torch.zeros(2, 224, 224, 3, dtype=torch.uint8)
        ids, index = torch.zeros(2, 88, dtype=torch.int64), torch.zeros(2, 1, dtype=torch.int64)
        found = served(image=picture, image_2=picture, instruction_ids=ids, state=torch.zeros(2, 8), unnorm_index=index)
    assert found.shape == (2, 8, 7)
    assert oft.action_head.model.fc1.weight.shape == (4096, 28672)
    assert sum(value.numel() for value in oft.vla.parameters()) * 2 == 15_082_474_368  # total_size of openvla-7b's index, bf16


def test_its_graph_becomes_a_plan(bundle: Path, tmp_path: Path) -> None:
    added = build_plans(bundle, tmp_path / "plans", Precision.BF16)
    assert plan_of(added).precision_layers["products.fp32"] == 1  # the action head's last product
