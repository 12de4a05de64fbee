"""CPU time of the action guard: `python -m benchmarks.guard` prints a table and writes benchmarks/results/guard.json.

Single calls, measured one by one (perf_counter for wall, process_time for CPU, each minus its own cost), for chunks that pass
and chunks that are clamped. Knows nothing of the service around the guard.
"""

import json
import os
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safety.action_space import ActionKind, ActionSpace, GripperPolarity
from safety.guard import GUARD_VERSION, Guard
from safety.profile import Preset, load_profile
from safety.verdict import Decision
from safety.wire import verdict_json

RESULT = Path(__file__).parent / "results" / "guard.json"
CALLS, WARM_UP = 5000, 500
CONTROL_HZ = 10.0
BUDGET_P50_US = {"8x7": 60.0, "50x7": 200.0}  # CPU, the target of the first cut and the budget


def _guard(kind: ActionKind) -> Guard:
    space = ActionSpace(
        kind=kind,
        names=("x", "y", "z", "rx", "ry", "rz", "gripper"),
        units=("m", "m", "m", "rad", "rad", "rad", "1"),
        control_hz=CONTROL_HZ,
        gripper_polarity=GripperPolarity.ONE_IS_OPEN,
    )
    return Guard(load_profile("franka_panda"), Preset.REDUCED, space)


def _chunk(steps: int, *, is_clamped: bool) -> NDArray[np.float32]:
    actions = np.random.default_rng(0).uniform(-0.01, 0.01, (steps, 7)).astype(np.float32)
    actions[:, 6] = 0.5
    if is_clamped:  # translation, rotation and gripper, in an eighth of the steps
        for step in range(0, steps, 8):
            actions[step] = (0.04, 0.03, 0.0, 0.0, 0.15, 0.1, 1.1)
    return actions


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


def measure() -> list[dict[str, Any]]:
    """One row per kind, chunk and path, then one for the JSON."""
    rows = []
    for kind in (ActionKind.EE_DELTA_ROTVEC, ActionKind.EE_DELTA_EULER):
        guard = _guard(kind)
        for steps in (1, 8, 50):
            for path in (Decision.PASS, Decision.CLAMP):
                actions = _chunk(steps, is_clamped=path is Decision.CLAMP)
                assert guard.check(actions).decision is path
                rows.append(_row(f"{kind} {steps}x7 {path}", partial(guard.check, actions)))
    verdict = guard.check(_chunk(8, is_clamped=True))
    rows.append(_row("verdict_json 8x7 clamp", partial(verdict_json, verdict)))
    return rows


def main() -> None:
    """Measures, prints, writes."""
    rows = measure()
    columns = list(rows[0])
    print("  ".join([f"{columns[0]:<32}", *(f"{column:>12}" for column in columns[1:])]))
    for row in rows:
        print("  ".join([f"{row['case']:<32}", *(f"{row[column]:>12.1f}" for column in columns[1:])]))
    for shape, budget in BUDGET_P50_US.items():
        worst = max(row["cpu_p50_us"] for row in rows if f" {shape} " in row["case"] and "json" not in row["case"])
        print(f"{shape}: CPU p50 {worst:.1f} µs on the slowest path, budget {budget:g} µs")
    machine = {"python": platform.python_version(), "numpy": np.__version__, "cpus": os.cpu_count(), "load": os.getloadavg()[0]}
    result = {"guard_version": GUARD_VERSION, "calls": CALLS, "budget_cpu_p50_us": BUDGET_P50_US, **machine, "rows": rows}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
