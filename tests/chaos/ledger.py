"""What the customer's side knows: the ids of the requests that were answered with an action, and how the others ended.

Drives a steady open-loop load through nginx and notes every answer. Knows nothing of what is being killed.
"""

import asyncio
import re
import time
from collections import Counter
from dataclasses import dataclass, field

from benchmarks.http_client import Pool, Reply

_REQUEST_ID = re.compile(rb'"request_id":\s*"(inf_[^"]+)"')
_DECISION = re.compile(rb'"decision":\s*"(\w+)"')


@dataclass(slots=True)
class Ledger:
    """Grows while load runs. `acknowledged` holds ids answered with an action; `outcomes` counts every status and code."""

    acknowledged: set[str] = field(default_factory=set)
    repeated: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)

    def note(self, reply: Reply) -> None:
        """Enters one answer."""
        if reply.status != 200:
            self.outcomes[str(reply.status) if reply.status else "lost"] += 1
            return
        decision, request_id = _DECISION.search(reply.body), _REQUEST_ID.search(reply.body)
        assert decision is not None, reply.body[:200]
        assert request_id is not None, reply.body[:200]
        self.outcomes[decision[1].decode()] += 1
        if decision[1] != b"reject":
            identity = request_id[1].decode()
            if identity in self.acknowledged:
                self.repeated.append(identity)
            self.acknowledged.add(identity)

    async def grow(self, more: int, *, within_s: float) -> None:
        """Waits until `more` further requests have been acknowledged. Raises TimeoutError."""
        goal = len(self.acknowledged) + more
        async with asyncio.timeout(within_s):
            while len(self.acknowledged) < goal:  # noqa: ASYNC110 -- a count, looked at now and then
                await asyncio.sleep(0.05)


async def steady_load(ledger: Ledger, pool: Pool, request: bytes, *, rate_hz: float) -> None:
    """Sends at `rate_hz` until cancelled; answers still on their way are waited for before it ends."""
    pending: set[asyncio.Task[None]] = set()

    async def one() -> None:
        ledger.note(await pool.send(request))

    start, sent = time.perf_counter(), 0
    try:
        while True:
            sent += 1
            await asyncio.sleep(max(0.0, start + sent / rate_hz - time.perf_counter()))
            task = asyncio.create_task(one())
            pending.add(task)
            task.add_done_callback(pending.discard)
    finally:
        await asyncio.gather(*pending)
