"""Hostile numbers in every field of `POST /v1/safety/check`, by msgpack, which unlike JSON can say NaN: refused or judged."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.control_plane.fakes import House

JOINTS = [0.0, -0.5, 0.0, -2.0, 0.0, 1.6, 0.7]
BODY: dict[str, Any] = {
    "actions": [JOINTS] * 8,
    "action": {
        "kind": "joint_abs",
        "names": [f"joint_{number}" for number in range(1, 8)],
        "units": ["rad"] * 7,
        "control_hz": 10.0,
    },
    "robot_type": "franka_panda",
    "state": {"q": JOINTS, "ee_position": [0.4, 0.0, 0.5]},
    "previous": {"actions": [JOINTS] * 8, "age_ms": 100.0, "seq": 1, "q": JOINTS, "ee_position": [0.4, 0.0, 0.5]},
    "seq": 2,
    "executed_index": 3,
    "obs_age_ms": 10.0,
    "network_rtt_ms": 5.0,
    "control_hz": 10.0,
    "safety": {
        "linear_speed_m_per_s": 0.2,
        "angular_speed_rad_per_s": 1.0,
        "joint_speed_rad_per_s": [1.0] * 7,
        "joint_min_rad": [-2.0, -1.5, -2.0, -2.5, -2.0, 0.2, -2.0],
        "gripper_range": [0.0, 0.9],
        "gripper_step_max": 0.5,
        "staleness_max_ms": 500.0,
        "workspace": {"low_m": [-1.0, -1.0, -1.0], "high_m": [1.0, 1.0, 2.0]},
        "half_spaces": [{"normal": [0.0, 0.0, 1.0], "offset_m": 2.0}],
        "surfaces": [{"normal": [0.0, 0.0, -1.0], "offset_m": 1.0}],
        "min_prefix": 2,
    },
}
HOSTILE = [float("nan"), float("inf"), 1e308, -1e308, 5e-324, 1e-310, -0.0, 2**64 - 1, True, "1"]
Path = tuple[str | int, ...]


def numbers_in(value: object, path: Path = ()) -> Iterator[Path]:
    """The way to every number, once for lists whose numbers are all alike."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from numbers_in(part, (*path, name))
    elif isinstance(value, list):
        yield from numbers_in(value[-1], (*path, len(value) - 1))
    elif isinstance(value, int | float):
        yield path


def with_value(path: Path, value: object) -> dict[str, Any]:
    body = copy.deepcopy(json.loads(json.dumps(BODY)))
    part: Any = body
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    return dict(body)


async def test_the_body_itself_passes() -> None:
    async with House().client() as client:
        answer = await client.post("/v1/safety/check", json=BODY)
    assert (answer.status_code, answer.json()["safety"]["decision"]) == (200, "pass"), answer.text


@pytest.mark.parametrize("path", list(numbers_in(BODY)), ids=lambda path: ".".join(map(str, path)))
async def test_no_number_in_any_field_gets_a_fault_of_ours_or_a_hole_in_the_answer(path: Path) -> None:
    headers = {"Content-Type": "application/msgpack"}
    async with House().client() as client:
        for value in HOSTILE:
            body = msgspec.msgpack.encode(with_value(path, value))
            answer = await client.post("/v1/safety/check", content=body, headers=headers)
            assert answer.status_code in {200, 409, 422}, (value, answer.text)
            if answer.status_code != 200:
                assert answer.json()["error"]["param"], (value, answer.text)
                continue
            told = answer.json()
            for rule in told["safety"]["rules"]:  # what is no number would be written as null
                assert None not in (rule.get("value", 0), rule.get("limit", 0)), (value, rule)
            is_number = isinstance(value, float) and abs(value) < 1e300
            assert is_number or path[0] != "actions" or told["safety"]["decision"] == "reject"
