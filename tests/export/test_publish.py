"""Publishing is all or nothing: a policy whose graph differs never replaces the one that is served."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from export.bundle import hashes
from export.contract.manifest import load_manifest
from export.parity import ParityBroken
from export.policies import tabletop
from export.publish import publish
from export.verify import verify

pytestmark = pytest.mark.export


class _Tiny(nn.Module):
    """Takes and answers what the tabletop network does, but exports in a second; `slip` is how far the exported graph is off."""

    def __init__(self, slip: float) -> None:
        super().__init__()
        self.inner, self.slip = nn.Linear(8, 56), slip

    def forward(self, image: Tensor, instruction_ids: Tensor, state: Tensor, state_mask: Tensor) -> Tensor:
        seen = image.to(torch.float32).mean((1, 2, 3))[:, None] + instruction_ids.to(torch.float32).mean(1, keepdim=True)
        answer = torch.tanh(self.inner(state * state_mask) + seen).view(-1, 8, 7)
        return answer + self.slip if torch.compiler.is_exporting() else answer


class _TinyFamily:
    """The tabletop family around a tiny network."""

    def __init__(self, slip: float = 0.0) -> None:
        torch.manual_seed(0)
        self._network = _Tiny(slip)
        self.manifest = tabletop.manifest
        self.examples = tabletop.examples
        self.tokenizer_file = tabletop.tokenizer_file
        self.evaluation_file = tabletop.evaluation_file

    def network(self) -> nn.Module:
        return self._network


def test_a_bundle_is_published_whole_and_a_failing_one_changes_nothing(tmp_path: Path) -> None:
    repository = tmp_path / "model_repository"
    (found,) = publish(_TinyFamily(), repository, version=3)
    assert found.is_close
    folder = repository / "tabletop"
    assert load_manifest(folder).version == 3
    assert verify(folder)[0].is_close
    assert "Not measured for this graph." in (folder / "MODEL_CARD.md").read_text()

    before = hashes(folder)
    with pytest.raises(ParityBroken):
        publish(_TinyFamily(slip=1e-3), repository, version=4)
    assert hashes(folder) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model_repository"]
    assert [path.name for path in repository.iterdir()] == ["tabletop"]
