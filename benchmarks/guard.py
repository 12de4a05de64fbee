"""CPU time of the action guard: `python -m benchmarks.guard` prints a table and writes benchmarks/results/guard.json.

Single calls, measured one by one (perf_counter for wall, process_time for CPU, each minus its own cost), for chunks that pass
and chunks that are clamped, without and with a known state. Knows nothing of the service around the guard.
"""

import json
import os
import platform
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safety.action_space import ROBOT_BASE, ActionKind, ActionSpace, GripperPolarity
from safety.context import NOTHING_KNOWN, Context, RobotState
from safety.guard import GUARD_VERSION, Guard
from safety.layering import Layer, base_policy, layered
from safety.profile import Preset, load_profile
from safety.verdict import Decision
from safety.wire import verdict_json
from safety.workspace import Box

RESULT = Path(__file__).parent / "results" / "guard.json"
CALLS, WARM_UP = 5000, 500
CONTROL_HZ = 10.0
READY = (0.0, -0.5, 0.0, -2.0, 0.0, 1.6, 0.7)
CELL = Layer(name="bench", workspace=Box(low_m=(-1.0, -1.0, 0.0), high_m=(1.0, 1.0, 1.0)))
AT_POINT = Context(state=RobotState(ee_position=(0.4, 0.0, 0.5), gripper=0.5), obs_age_ms=20.0)
AT_JOINTS = Context(state=RobotState(q=READY, gripper=0.5), obs_age_ms=20.0)
BUDGET_US = {  # CPU p50, p99
    "ee_delta_rotvec 50x7 smooth, workspace": (200.0, 500.0),
    "joint_abs 50x8 forward kinematics": (500.0, 1000.0),
    "joint_abs 50x8 self-collision": (1000.0, 1500.0),
}


def _guard(kind: ActionKind, *, has_cell: bool = False, has_geometry: bool = True) -> Guard:
    is_joints = kind is ActionKind.JOINT_ABS
    names = tuple(f"joint_{index + 1}" for index in range(7)) if is_joints else ("x", "y", "z", "rx", "ry", "rz")
    space = ActionSpace(
        kind=kind,
        names=(*names, "gripper"),
        units=(*(("rad",) * 7 if is_joints else ("m", "m", "m", "rad", "rad", "rad")), "1"),
        control_hz=CONTROL_HZ,
        gripper_polarity=GripperPolarity.ONE_IS_OPEN,
        frame=ROBOT_BASE,
    )
    profile = load_profile("franka_panda")
    profile = profile if has_geometry else replace(profile, geometry=None)
    policy = base_policy(profile, Preset.REDUCED)
    return Guard(profile, Preset.REDUCED, space, policy=layered(policy, CELL) if has_cell else policy)


def _chunk(steps: int, *, is_clamped: bool, is_smooth: bool = False) -> NDArray[np.float32]:
    """Noise by default, which C4 has to count through; a smooth chunk is what policies send."""
    actions = np.random.default_rng(0).uniform(-0.01, 0.01, (steps, 7)).astype(np.float32)
    if is_smooth:
        actions[:] = 0.01 * np.sin(np.arange(steps)[:, np.newaxis] / 20.0 + np.arange(7))
    actions[:, 6] = 0.5
    if is_clamped:  # translation, rotation and gripper, in an eighth of the steps
        for step in range(0, steps, 8):
            actions[step] = (0.04, 0.03, 0.0, 0.0, 0.15, 0.1, 1.1)
    return actions


def _joints(*, is_clamped: bool) -> NDArray[np.float32]:
    path = READY + np.arange(1, 51)[:, np.newaxis] * 0.005
    if is_clamped:
        path[20:, 3] += 0.3
    return np.concatenate([path, np.full((50, 1), 0.5)], axis=1).astype(np.float32)


def _samples_us(clock: Callable[[], int], call: Callable[[], object]) -> NDArray[np.float64]:
    for _ in range(WARM_UP):
        call()
    taken = np.empty(CALLS)
    for index in range(CALLS):
        start = clock()
        call()
        taken[index] = clock() - start
    empty = [-(clock() - clock()) for _ in range(CALLS)]
    return (taken - np.median(empty)) / 1000


def _row(name: str, call: Callable[[], object]) -> dict[str, Any]:
    cpu, wall = _samples_us(process_time_ns, call), _samples_us(perf_counter_ns, call)
    quantiles = {
        f"{clock}_p{q}_us": round(float(np.percentile(samples, q)), 1)
        for clock, samples in (("cpu", cpu), ("wall", wall))
        for q in (50, 99)
    }
    return {"case": name, **quantiles}


def _numbers_alone() -> list[dict[str, Any]]:
    rows = []
    for kind in (ActionKind.EE_DELTA_ROTVEC, ActionKind.EE_DELTA_EULER):
        guard = _guard(kind)
        for steps in (1, 8, 50):
            smooth = _chunk(steps, is_clamped=False, is_smooth=True)
            rows.append(_row(f"{kind} {steps}x7 smooth", partial(guard.check, smooth)))
            for path in (Decision.PASS, Decision.CLAMP):
                actions = _chunk(steps, is_clamped=path is Decision.CLAMP)
                assert guard.check(actions).decision is path
                rows.append(_row(f"{kind} {steps}x7 noise, {path}", partial(guard.check, actions)))
    verdict = guard.check(_chunk(8, is_clamped=True))
    return [*rows, _row("verdict_json 8x7 clamp", partial(verdict_json, verdict))]


def _with_places() -> list[dict[str, Any]]:
    deltas = _guard(ActionKind.EE_DELTA_ROTVEC, has_cell=True)
    bare = _guard(ActionKind.JOINT_ABS, has_cell=True, has_geometry=False)
    whole = _guard(ActionKind.JOINT_ABS, has_cell=True)
    smooth, legal, jump = _chunk(50, is_clamped=False, is_smooth=True), _joints(is_clamped=False), _joints(is_clamped=True)
    cases: list[tuple[str, Guard, NDArray[np.float32], Context]] = [
        ("ee_delta_rotvec 50x7 smooth, workspace", deltas, smooth, AT_POINT),
        ("ee_delta_rotvec 50x7 smooth, joints known", deltas, smooth, AT_JOINTS),
        ("joint_abs 50x8 forward kinematics", bare, legal, NOTHING_KNOWN),
        ("joint_abs 50x8 forward kinematics, state", bare, legal, AT_JOINTS),
        ("joint_abs 50x8 self-collision", whole, legal, NOTHING_KNOWN),
        ("joint_abs 50x8 forward kinematics, clamp", bare, jump, AT_JOINTS),
        ("joint_abs 50x8 self-collision, clamp", whole, jump, AT_JOINTS),
    ]
    return [_row(name, partial(guard.check, raw, context)) for name, guard, raw, context in cases]


def main() -> None:
    """Measures, prints, writes."""
    rows = [*_numbers_alone(), *_with_places()]
    columns = list(rows[0])
    print("  ".join([f"{columns[0]:<44}", *(f"{column:>12}" for column in columns[1:])]))
    for row in rows:
        print("  ".join([f"{row['case']:<44}", *(f"{row[column]:>12.1f}" for column in columns[1:])]))
    for row in rows:
        if row["case"] in BUDGET_US:
            p50, p99 = BUDGET_US[row["case"]]
            print(f"{row['case']}: {row['cpu_p50_us']:.0f} / {row['cpu_p99_us']:.0f} µs CPU, budget {p50:g} / {p99:g}")
    machine = {"python": platform.python_version(), "numpy": np.__version__, "cpus": os.cpu_count(), "load": os.getloadavg()[0]}
    result = {"guard_version": GUARD_VERSION, "calls": CALLS, "budget_cpu_us": BUDGET_US, **machine, "rows": rows}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
