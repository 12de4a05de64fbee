"""Whose request goes to a policy next: while there is room, at once; beyond that customers share by the weight of their tier.

Self-clocked fair queueing, one line per policy: a burst waits behind itself, another customer's single request only for the next
slot. Nobody waits longer than their deadline, and who would is turned away at once. Priority 1 in Triton is strict there, so only
a quarter of the slots carries it: paying more comes first and still cannot starve the others. Without contention it counts and
nothing else. Knows no tensor and no HTTP; one per process, because Triton's replicas are shared out per process.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from time import perf_counter
from types import MappingProxyType, TracebackType
from typing import Self
from uuid import UUID

from billing.tiers import Tier
from control_plane.errors import ApiError
from control_plane.identity.principal import Principal
from control_plane.inference.deadline import Deadline
from control_plane.metrics import FleetMetrics

URGENT, NORMAL = 1, 2
WEIGHTS: Mapping[Tier, int] = MappingProxyType({Tier.FREE: 1, Tier.PRO: 4, Tier.ENTERPRISE: 8})
_PACE_SHARE = 0.1  # of the newest interval in the running mean
_RETRY_AFTER_MIN_MS = 100

_Waiting = asyncio.Future[None]


class FairQueue:
    """The lines of one process. `slots` says how many requests may be at one policy at once, at this moment."""

    def __init__(self, *, slots: Callable[[], int], metrics: FleetMetrics) -> None:
        self._slots = slots
        self._metrics = metrics
        self._lines: dict[str, _Line] = {}

    def slot(self, policy: str, principal: Principal, deadline: Deadline) -> "Slot":
        """A slot at the policy. Use as `async with`; entering raises `overloaded` or `deadline_exceeded`."""
        line = self._lines.get(policy)
        if line is None:
            line = self._lines[policy] = _Line(policy=policy, slots=self._slots, metrics=self._metrics)
        return Slot(line, principal, deadline)


class Slot:
    """One request's slot. `priority` is Triton's level, `has_waited` whether there was contention."""

    __slots__ = ("_deadline", "_line", "_principal", "has_waited", "priority")

    def __init__(self, line: "_Line", principal: Principal, deadline: Deadline) -> None:
        self._line = line
        self._principal = principal
        self._deadline = deadline
        self.has_waited = False
        self.priority = NORMAL

    async def __aenter__(self) -> Self:
        line = self._line
        if not line.take_at_once():
            self.has_waited = True
            await line.wait(self._principal, self._deadline)
        if self._principal.tier is Tier.ENTERPRISE and line.urgent < max(1, line.slots() // 4):
            line.urgent += 1
            self.priority = URGENT
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _failure: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self.priority == URGENT:
            self._line.urgent -= 1
        self._line.leave()


@dataclass(slots=True, kw_only=True)
class _Line:
    """What waits before one policy. Tags are virtual time: a request costs one over the weight of its customer's tier."""

    policy: str
    slots: Callable[[], int]
    metrics: FleetMetrics
    taken: int = 0
    urgent: int = 0
    waiting: int = 0
    now: float = 0.0
    pace_s: float = 0.0  # between two slots that became free while somebody waited; 0 until it is known
    left_at_s: float | None = None
    tags: dict[UUID, float] = field(default_factory=dict)
    heap: list[tuple[float, int, _Waiting]] = field(default_factory=list)
    arrivals: int = 0

    def take_at_once(self) -> bool:
        """Takes a slot if there is one and nobody waits for it."""
        if self.waiting or self.taken >= self.slots():
            return False
        self.taken += 1
        return True

    async def wait(self, principal: Principal, deadline: Deadline) -> None:
        """Returns with a slot taken. Raises ApiError."""
        tag = max(self.now, self.tags.get(principal.customer_id, 0.0)) + 1 / WEIGHTS[principal.tier]
        left_s = deadline.remaining_s()
        self._refuse_hopeless(tag, left_s)
        self.tags[principal.customer_id] = tag
        mine: _Waiting = asyncio.get_running_loop().create_future()
        self.arrivals += 1
        heappush(self.heap, (tag, self.arrivals, mine))
        self._count(1)
        try:
            async with asyncio.timeout(left_s):
                await mine
        except TimeoutError:
            self._give_up(mine)
            self.metrics.shed.labels("too_late").inc()
            deadline.remaining_s()
            raise ApiError("deadline_exceeded", param=deadline.param) from None
        except asyncio.CancelledError:
            self._give_up(mine)
            raise

    def leave(self) -> None:
        """Frees a slot, and lets in whoever is next."""
        self.taken -= 1
        if not self.waiting:
            self.left_at_s = None
            return
        now_s = perf_counter()
        if self.left_at_s is not None:
            interval_s = now_s - self.left_at_s
            self.pace_s = interval_s if self.pace_s == 0.0 else self.pace_s + _PACE_SHARE * (interval_s - self.pace_s)
        self.left_at_s = now_s
        self._let_in()

    def _let_in(self) -> None:
        while self.waiting and self.taken < self.slots():
            tag, _, first = heappop(self.heap)
            if first.done():
                continue  # gave up
            self.now = tag
            self.taken += 1
            self._count(-1)
            first.set_result(None)
        if not self.waiting:
            self.now = 0.0
            self.tags.clear()
            self.heap.clear()

    def _give_up(self, mine: _Waiting) -> None:
        """The slot goes to the next one if it had just been given; a cancelled future is passed over when its turn comes."""
        if mine.done() and not mine.cancelled():
            self.leave()
            return
        mine.cancel()
        self._count(-1)
        self._let_in()

    def _refuse_hopeless(self, tag: float, left_s: float) -> None:
        """As far as one can tell: by how fast slots have become free, and by who goes before."""
        if self.pace_s == 0.0:
            return
        ahead = sum(other <= tag and not waiting.done() for other, _, waiting in self.heap)
        wait_s = (ahead + 1) * self.pace_s
        if wait_s > left_s:
            self.metrics.shed.labels("too_far").inc()
            raise ApiError("overloaded", retry_after_ms=max(_RETRY_AFTER_MIN_MS, int((wait_s - left_s) * 1e3)))

    def _count(self, by: int) -> None:
        self.waiting += by
        self.metrics.waiting.labels(self.policy).inc(by)
