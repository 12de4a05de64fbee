"""F1 in the service: a policy that speaks in tokens says how sure it was, and the guard is told. No other policy pays for it."""

import base64
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from control_plane.guarding.fields import Settings as Limits
from control_plane.identity.principal import CustomerSafety
from control_plane.policies.catalogue import load_catalogue
from control_plane.triton import Tensor
from safety.calibration import Threshold, Thresholds, thresholds_toml
from tests.control_plane.fakes import ROOT, FakeAuthenticator, FakeTriton, House, picture, principal

VOCABULARY = 256
BODY = {"image": base64.b64encode(picture()).decode(), "instruction": "pick up red cube"}


def speaking_house(folder: Path, entropies: list[float], **changes: Any) -> House:
    """The shipped policy's facts, as if it spoke seven tokens for one step."""
    shutil.copytree(ROOT / "model_repository" / "tabletop", folder / "tabletop")
    path = folder / "tabletop" / "manifest.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts["action"]["horizon"] = 1
    facts["outputs"] = [
        {"tensor": "action", "dtype": "float32", "shape": [1, 7], "atol": 1e-5},
        {"tensor": "ids", "dtype": "int64", "shape": [7], "atol": 0.0},
        {"tensor": "is_action", "dtype": "uint8", "shape": [7], "atol": 0.0},
        {"tensor": "logprob", "dtype": "float32", "shape": [7], "atol": 1e-4},
        {"tensor": "entropy", "dtype": "float32", "shape": [7], "atol": 1e-4},
    ]
    facts["tokens"] = {
        "tensor": "ids",
        "is_action_tensor": "is_action",
        "logprob_tensor": "logprob",
        "entropy_tensor": "entropy",
        "vocabulary": VOCABULARY,
    }
    path.write_text(json.dumps(facts), encoding="utf-8")
    triton = FakeTriton(answer=spoken(entropies))
    return House(
        catalogue=load_catalogue(folder, default="tabletop"), triton=triton, deployment=Limits(on_reject="answer"), **changes
    )


def spoken(entropies: list[float]) -> Mapping[str, Tensor]:
    still = np.zeros(7, np.float32)
    return {
        "action": Tensor(name="action", datatype="FP32", shape=(1, 1, 7), data=still.tobytes()),
        "is_action": Tensor(name="is_action", datatype="UINT8", shape=(1, 7), data=bytes([1] * 7)),
        "entropy": Tensor(name="entropy", datatype="FP32", shape=(1, 7), data=np.array(entropies, np.float32).tobytes()),
    }


async def f1_of(house: House, **more: Any) -> tuple[str, dict[str, Any]]:
    async with house.client() as client:
        answer = await client.post("/v1/inference", json=BODY | more)
    assert answer.status_code == 200, answer.text
    found = answer.json()["safety"]
    return found["decision"], next(rule for rule in found["rules"] if rule["id"] == "F1.token_entropy")


@pytest.mark.parametrize("more", [{}, {"obs_age_ms": 5}, {"session_id": "ep-1", "seq": 3}])
async def test_the_mean_entropy_is_told_as_a_share_of_the_largest(tmp_path: Path, more: dict[str, Any]) -> None:
    house = speaking_house(tmp_path, [np.log(VOCABULARY) / 4] * 7)
    decision, rule = await f1_of(house, **more)
    assert (decision, rule["status"], rule["score"]) == ("pass", "informed", None)
    assert rule["value"] == pytest.approx(0.25, rel=1e-3)
    assert house.triton.calls[0].outputs == ("action", "is_action", "entropy")


async def test_what_is_no_entropy_leaves_the_rule_unevaluated_and_the_motion_alone(tmp_path: Path) -> None:
    decision, rule = await f1_of(speaking_house(tmp_path, [0.1] * 6 + [float("nan")]))
    assert (decision, rule["status"], rule["reason"]) == ("pass", "not_evaluated", "not_applicable")


async def test_above_its_calibrated_threshold_it_warns_and_a_customer_may_refuse_then(tmp_path: Path) -> None:
    threshold = Threshold(value=0.2, alpha=0.05, rollouts=40)
    text = thresholds_toml(Thresholds(policy="tabletop", robot_type="franka_panda", token_entropy=threshold))
    text = text.replace('reviewed_by = ""', 'reviewed_by = "ada"').replace('reviewed_on = ""', 'reviewed_on = "2026-11-27"')
    for settings, decision, status in (
        ({"calibrations": [text]}, "pass", "warned"),
        ({"calibrations": [text], "limits": {"refuse_on_warning": ["F1"]}}, "reject", "rejected"),
    ):
        stored = CustomerSafety(version=1, preset=None, document=json.dumps(settings))
        holder = replace(principal(), safety=stored)
        folder = tmp_path / status
        folder.mkdir()
        house = speaking_house(folder, [np.log(VOCABULARY) / 4] * 7, authenticator=FakeAuthenticator(holder=holder))
        found, rule = await f1_of(house)
        assert (found, rule["status"]) == (decision, status)
        assert rule["limit"] == 0.2


async def test_a_policy_without_tokens_is_asked_for_nothing_more() -> None:
    house = House()
    _, rule = await f1_of(house)
    assert rule["reason"] == "not_applicable"
    assert house.triton.calls[0].outputs == ("action",)
