"""The network keeps its promises whatever its weights are: caps, masks, and answers that do not depend on the batch."""

import numpy as np
import pytest
import torch

from tabletop.arm import HOME_RAD, forward
from tabletop.expert import SHIFT_CAP_M, TURN_CAP_RAD
from tabletop.network import StateEncoder, TabletopPolicy

pytestmark = pytest.mark.export


def _inputs(count: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randint(0, 256, (count, 128, 128, 3), dtype=torch.uint8, generator=generator),
        "instruction_ids": torch.randint(0, 30, (count, 24), generator=generator),
        "state": torch.rand(count, 8, generator=generator),
        "state_mask": torch.ones(count, 1),
    }


@pytest.fixture
def network() -> TabletopPolicy:
    torch.manual_seed(0)
    return TabletopPolicy().eval()


@torch.inference_mode()
def test_no_weights_can_ask_for_more_than_the_caps(network: TabletopPolicy) -> None:
    network.action.weight.mul_(1e4)
    chunk = network(**_inputs(4))
    assert chunk.shape == (4, 8, 7)
    assert float(chunk[..., :3].norm(dim=-1).max()) == pytest.approx(SHIFT_CAP_M, rel=1e-5)
    assert float(chunk[..., 3:6].norm(dim=-1).max()) <= TURN_CAP_RAD * (1 + 1e-5)
    assert float(chunk[..., 6].min()) >= 0.0
    assert float(chunk[..., 6].max()) <= 1.0


@torch.inference_mode()
def test_a_state_that_was_not_sent_has_no_influence(network: TabletopPolicy) -> None:
    inputs = _inputs(2) | {"state_mask": torch.zeros(2, 1)}
    other = inputs | {"state": torch.full((2, 8), 1e6)}
    assert torch.equal(network(**inputs), network(**other))


@torch.inference_mode()
def test_a_state_that_was_sent_has_influence(network: TabletopPolicy) -> None:
    inputs = _inputs(2)
    assert not torch.equal(network(**inputs), network(**(inputs | {"state": inputs["state"] + 0.2})))


@torch.inference_mode()
def test_an_answer_does_not_depend_on_its_neighbours(network: TabletopPolicy) -> None:
    inputs = _inputs(5)
    alone = torch.cat([network(**{name: value[[row]] for name, value in inputs.items()}) for row in range(5)])
    assert torch.allclose(network(**inputs), alone, atol=1e-6)


def test_the_pose_inside_the_network_is_that_of_the_arm() -> None:
    joints = HOME_RAD + np.random.default_rng(2).uniform(-0.4, 0.4, 7)
    pose = StateEncoder(8)._tool_pose(torch.as_tensor(joints, dtype=torch.float32)[None])[0].numpy()
    assert np.allclose(pose[:3, 3], forward(joints).position, atol=1e-5)
    assert np.allclose(pose[:3, :3], forward(joints).rotation, atol=1e-5)
