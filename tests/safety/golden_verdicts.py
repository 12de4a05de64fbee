"""One verdict per robot, action kind and decision as JSON. `python -m tests.safety.golden_verdicts` rewrites the files.

Review reads the difference: a changed number is a changed promise.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from safety.action_space import ActionKind
from safety.context import Context, RobotState
from safety.guard import Guard
from safety.layering import Layer, base_policy, layered
from safety.profile import Preset, load_profile
from safety.verdict import Verdict
from safety.wire import fallback_json, outcome_json, verdict_json
from safety.workspace import Box
from tests.safety.factories import READY, action_space, chunk, joint_chunk, joint_space, panda_guard, pose_chunk, pose_space

FOLDER = Path(__file__).parent / "golden"
CELL = Layer(name="org:golden@1", workspace=Box(low_m=(-1.0, -1.0, 0.0), high_m=(0.6, 1.0, 1.0)))


def golden_verdicts() -> dict[str, dict[str, Any]]:
    """The `safety` and `fallback` objects by name."""
    passing, clamped, rejected = chunk(x=0.028), chunk(), chunk()
    clamped[2, :3] = (0.06, -0.03, 0.06)
    rejected[5, 3:6] = (0.0, 0.0, 57.3)
    guard = panda_guard()
    verdicts = {name: guard.check(raw) for name, raw in (("pass", passing), ("clamp", clamped), ("reject", rejected))}
    verdicts |= _in_a_cell() | _other_robots()
    return {
        name: {
            "outcome": outcome_json(verdict),
            "safety": verdict_json(verdict),
            "fallback": fallback_json(verdict.fallback) if verdict.fallback else None,
        }
        for name, verdict in verdicts.items()
    }


def _in_a_cell() -> dict[str, Verdict]:
    profile = load_profile("franka_panda")
    policy = layered(base_policy(profile, Preset.REDUCED), CELL)
    deltas, joints, poses = (
        Guard(profile, Preset.REDUCED, space, policy=policy) for space in (action_space(), joint_space(), pose_space())
    )
    known = Context(state=RobotState(q=READY, gripper=0.5), obs_age_ms=40, server_ms=30)
    leaving = Context(state=RobotState(ee_position=(0.55, 0.0, 0.5), gripper=0.5))
    jump = joint_chunk()
    jump[12:, 3] += 0.3
    impossible = Context(state=RobotState(q=(0.0,) * 7))
    return {
        "panda_ee_delta_truncate": deltas.check(chunk(12, x=0.01), leaving),
        "panda_joint_abs_pass": joints.check(joint_chunk(), known),
        "panda_joint_abs_clamp": joints.check(jump, known),
        "panda_joint_abs_invalid_state": joints.check(joint_chunk(), impossible),
        "panda_ee_abs_pass": poses.check(pose_chunk()),
    }


def _other_robots() -> dict[str, Verdict]:
    found = {}
    for robot in ("franka_fr3", "xarm7", "ur5e", "widowx_250s", "viperx_300s", "so101", "aloha"):
        profile = load_profile(robot)
        arms, count = profile.arms, profile.joints_per_arm
        low, high = (np.array(end.values) for end in (profile.joints.position_min_rad, profile.joints.position_max_rad))
        arm = np.tile(np.append((low + high) / 2, 0.5), arms)
        chunk_ = np.tile(arm, (20, 1)).astype(np.float32)
        chunk_[:, 0] += np.arange(20, dtype=np.float32) * 0.02
        space = joint_space(ActionKind.JOINT_ABS, joints=count, arms=arms)
        found[f"{robot}_joint_abs"] = Guard(profile, Preset.REDUCED, space).check(chunk_)
    return found


def render(answer: dict[str, Any]) -> str:
    """As the file has it: strict JSON, one value a line."""
    return json.dumps(answer, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, answer in golden_verdicts().items():
        (FOLDER / f"{name}.json").write_text(render(answer), encoding="utf-8")
