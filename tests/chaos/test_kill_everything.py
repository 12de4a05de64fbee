"""A fixed small size of the kill test; `make chaos` runs a long one."""

from pathlib import Path

from benchmarks.control_plane import workloads
from benchmarks.stack import running_stack
from tests.chaos.experiment import VICTIMS, Plan, run


async def test_every_acknowledged_request_has_exactly_one_row_whatever_is_killed(tmp_path: Path) -> None:
    with running_stack(tmp_path / "state") as stack:
        workload = workloads(stack.example)[1]
        plan = Plan(rounds=1, rate_hz=25.0, acknowledged_between=40)
        outcome = await run(stack, plan, image=workload.body, content_type=workload.content_type)
    assert outcome.kills == len(VICTIMS)
    assert outcome.acknowledged >= plan.acknowledged_between * (len(VICTIMS) + 1)
    assert outcome.missing == []
    assert outcome.repeated_answers == []
    assert outcome.rows == outcome.distinct_rows
    assert outcome.billable_in_rollups == outcome.billable_rows
    assert outcome.billable_rows >= outcome.acknowledged
    assert outcome.dead_letters == 0
