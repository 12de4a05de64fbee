"""Two real Tritons under load, one of them killed as the kernel would: right answers or typed errors, and it is found again."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np

from control_plane.policies.catalogue import load_catalogue
from control_plane.policies.tensors import action_of, canary_call
from control_plane.replicas import Replicas, ReplicaState
from control_plane.triton import GrpcTriton, TritonError, TritonFault
from tests.control_plane.eventually import eventually
from tests.control_plane.fakes import ROOT
from tests.control_plane.own_servers import own_triton

POLICY = load_catalogue(ROOT / "model_repository", default="tabletop").policies["tabletop"]


async def test_a_replica_killed_under_load_costs_at_most_what_it_had_in_flight(triton_venv: Path) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(own_triton(triton_venv))
        second = await stack.enter_async_context(own_triton(triton_venv))
        replicas = Replicas({server.url: GrpcTriton(server.url) for server in (first, second)})
        stack.push_async_callback(replicas.close)
        expected = action_of(POLICY.manifest, await replicas.infer(canary_call(POLICY, timeout_s=30.0)))
        faults: Counter[tuple[TritonFault, bool]] = Counter()
        answered, stop = 0, asyncio.Event()

        async def robot() -> None:
            nonlocal answered
            while not stop.is_set():
                try:
                    action = action_of(POLICY.manifest, await replicas.infer(canary_call(POLICY, timeout_s=30.0)))
                except TritonError as error:
                    faults[error.fault, error.was_dispatched] += 1
                else:
                    np.testing.assert_allclose(action, expected, atol=1e-4)
                    answered += 1

        async def have_answered(count: int) -> None:
            async def enough() -> bool:
                return answered >= count

            await eventually(enough, within_s=60.0)

        robots = [asyncio.create_task(robot()) for _ in range(6)]
        await have_answered(60)
        assert min(replica.calls for replica in replicas.all) > 5
        first.kill()
        killed = replicas.all[0]
        await have_answered(answered + 60)
        assert killed.state is ReplicaState.AWAY
        assert set(faults) <= {(TritonFault.UNAVAILABLE, True)}  # what surely reached no model was answered by the other one
        assert faults.total() <= len(robots)
        await first.start()

        async def is_back() -> bool:
            return killed.state is ReplicaState.SERVING and killed.in_flight > 0

        await eventually(is_back, within_s=60.0)
        stop.set()
        await asyncio.gather(*robots)
        assert faults.total() <= len(robots)
