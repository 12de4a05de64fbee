"""The whole way: a checkpoint in the published layout, one export command, Triton, and `POST /v1/inference` with a key.

What comes back must be the action that the original code computed, which `reference.json` of the checkpoint holds.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from control_plane.keys.verbs import IssuedKey
from export.benchmark.own_triton import serving
from tests.control_plane import whole_app

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT.parent / "shared" / "fixtures" / "openvla_tiny"
POLICY = "openvla-tiny"
GRIPPER = 6  # the random checkpoint leaves its range, and the guard puts it to the nearer end
TOO_SMALL = "images/3.png"  # one pixel: the API takes no picture of fewer than 16
pytestmark = [
    pytest.mark.skipif(not CHECKPOINT.is_dir(), reason="the reference checkpoint shared/fixtures/openvla_tiny is not here"),
    pytest.mark.timeout(600),  # exporting takes ten seconds alone, a hundred on a machine that does much else
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A running API that serves the exported policy."""

    client: httpx.AsyncClient
    key: IssuedKey

    async def ask(self, **changes: Any) -> httpx.Response:
        """One inference."""
        return await whole_app.post(self.client, self.key, {"model": POLICY, **changes})


def cases() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((CHECKPOINT / "reference.json").read_text())["cases"] if CHECKPOINT.is_dir() else []
    return found


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with what `vlaapi export openvla` made of the checkpoint."""
    if not (Path(os.environ.get("VLA_EXPORT_VENV", ROOT / ".venv-export")) / "bin" / "python").exists():
        pytest.skip("the export environment is missing; run `make venv-export`")
    found = tmp_path_factory.mktemp("exported") / "model_repository"
    words = ("export", "openvla", "--checkpoint", str(CHECKPOINT), "--name", POLICY, "--repository", str(found))
    done = subprocess.run([sys.executable, "-m", "vlaapi", *words], cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return found


@pytest.fixture(scope="module")
def triton(repository: Path, triton_venv: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Triton's address."""
    with serving(repository, triton_venv, tmp_path_factory.mktemp("triton")) as address:
        yield address


@pytest.fixture
async def service(
    repository: Path, triton: str, database_url: str, clean_redis_url: str, tmp_path: Path
) -> AsyncIterator[Service]:
    """The application over real stores and that Triton."""
    environment = whole_app.variables(
        database_url=database_url, redis_url=clean_redis_url, triton_url=triton, spool=tmp_path / "spool"
    )
    # Random weights move fast: with the reduced preset the guard would slow most of them down.
    changes = {"model_repository": str(repository), "default_policy": POLICY, "safety_preset": "manufacturer"}
    settings = whole_app.settings_of(environment, **changes)
    async with whole_app.running(settings) as client:
        yield Service(client=client, key=await whole_app.new_key(settings))


def asked(case: dict[str, Any]) -> dict[str, str]:
    return {
        "image": base64.b64encode((CHECKPOINT / case["image"]).read_bytes()).decode(),
        "instruction": case["instruction"],
        "unnorm_key": case["unnorm_key"],
    }


async def test_the_answer_is_what_the_original_code_computed(service: Service) -> None:
    seen = [case for case in cases() if case["image"] != TOO_SMALL]
    for case in seen:
        body = (await service.ask(**asked(case))).json()
        wanted = np.array(case["action"])
        wanted[GRIPPER] = np.clip(wanted[GRIPPER], 0.0, 1.0)
        assert np.abs(np.array(body["action"]["values"]) - wanted).max() < 1e-6
        assert {rule["id"] for rule in body["safety"]["rules"] if rule["status"] == "clamped"} <= {"B4.gripper_range"}
    assert len(seen) == 12


async def test_statistics_must_be_named_because_the_checkpoint_has_two(service: Service) -> None:
    question = asked(cases()[0])
    del question["unnorm_key"]
    refusal = await service.ask(**question)
    assert refusal.status_code == 422
    assert (refusal.json()["error"]["param"], "bridge_orig, tiny_sim" in refusal.json()["error"]["message"]) == (
        "unnorm_key",
        True,
    )


async def test_the_list_of_models_says_how_to_ask_it(service: Service) -> None:
    response = await service.client.get("/v1/models", headers={"Authorization": f"Bearer {service.key.text}"})
    (model,) = response.json()["models"]
    assert (model["id"], model["status"], model["action"]["unnorm_keys"]) == (POLICY, "ready", ["bridge_orig", "tiny_sim"])
