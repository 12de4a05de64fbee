"""Which Triton replica answers worse than its peers: a canary inference each, in the background, and the bad one is ejected.

A canary asks what health endpoints do not tell: whether the answer has the manifest's shape, and how long it takes. Only a
comparison counts (where all fail it is the policy or the load), at most half are ejected and never the last; several good
canaries in a row bring a replica back. A replica that answers real requests well is asked rarely. Runs in every API process.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from time import monotonic

from structlog.typing import FilteringBoundLogger

from control_plane.policies.catalogue import ServedPolicy
from control_plane.policies.offer import Offer
from control_plane.policies.tensors import WrongAnswer, action_of, canary_call
from control_plane.replicas import Replica, Replicas, Served
from control_plane.triton import TritonError, TritonFault

_EVERY_S = 2.0
_BUSY_ROUNDS = 5  # a replica that answers real requests well is asked in one of so many rounds
_TIMEOUT_S = 2.0
_FAILING_IN_A_ROW, _SLOW_IN_A_ROW, _GOOD_IN_A_ROW = 2, 3, 3
_SLOW_TIMES, _SLOW_MARGIN_S = 3.0, 0.025


class Symptom(StrEnum):
    """Why a replica was ejected (a label of `vla_replica_ejections`)."""

    WRONG_ANSWER = "wrong_answer"
    FAILING = "failing"
    SLOW = "slow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one canary came back with. `took_s` None: no comparable answer; `symptom` None: none by itself."""

    took_s: float | None = None
    symptom: Symptom | None = None


_NOTHING = Finding()  # it is away, or has not loaded the policy: the breaker's matter, and `Replicas` goes elsewhere


@dataclass(slots=True)
class _Record:
    """The last rounds of one replica."""

    in_a_row: dict[Symptom, int] = field(default_factory=dict)
    good_in_a_row: int = 0


class Outliers:
    """The judge of one process. `ejected` is told the address and why."""

    def __init__(
        self,
        *,
        replicas: Replicas,
        offer: Offer,
        log: FilteringBoundLogger,
        ejected: Callable[[str, str], None] = lambda *_: None,
        every_s: float = _EVERY_S,
    ) -> None:
        self._replicas = replicas
        self._offer = offer
        self._log = log
        self._ejected = ejected
        self._every_s = every_s
        self._records = {replica.address: _Record() for replica in replicas.all}
        self._rounds = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look, where there is something to compare."""
        if len(self._replicas.all) > 1:
            self._task = asyncio.create_task(self._look_for_ever())

    async def stop(self) -> None:
        """Ends the looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look_for_ever(self) -> None:
        while True:
            await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._replicas.suspicion.wait()

    async def look(self) -> None:
        """One round: every policy at every replica that is due, then the judgement."""
        self._rounds += 1
        found: dict[str, list[Finding]] = {}
        for policy in self._offer.switched_on():
            due = [replica for replica in self._replicas.all if self._is_due(replica, policy)]
            findings = await asyncio.gather(*(self._ask(replica, policy) for replica in due))
            compared = compare({replica.address: finding for replica, finding in zip(due, findings, strict=True)})
            for address, finding in compared.items():
                found.setdefault(address, []).append(finding)
        for replica in self._replicas.all:
            self._judge(replica, found.get(replica.address, ()))
        self._replicas.suspicion.clear()  # also what these canaries raised themselves

    def _is_due(self, replica: Replica, policy: ServedPolicy) -> bool:
        """All or none in a calm round, so that there is something to compare with."""
        if replica.is_draining:
            return False
        if self._rounds % _BUSY_ROUNDS == 0 or any(one.is_ejected or one.is_suspect for one in self._replicas.all):
            return True
        served: Served = policy.model, policy.version
        since_s = monotonic() - self._every_s
        return any(one.good_at_s.get(served, 0.0) < since_s for one in self._replicas.all if not one.is_draining)

    async def _ask(self, replica: Replica, policy: ServedPolicy) -> Finding:
        began_s = monotonic()
        try:
            action_of(policy.manifest, await self._replicas.ask(replica, canary_call(policy, timeout_s=_TIMEOUT_S)))
        except WrongAnswer:
            return Finding(symptom=Symptom.WRONG_ANSWER)
        except TritonError as error:
            is_absent = error.fault in {TritonFault.UNAVAILABLE, TritonFault.NOT_LOADED, TritonFault.QUEUE_FULL}
            return _NOTHING if is_absent else Finding(symptom=Symptom.FAILING)
        return Finding(took_s=monotonic() - began_s)

    def _judge(self, replica: Replica, findings: Sequence[Finding]) -> None:
        record = self._records[replica.address]
        replica.is_suspect = False
        told = [finding for finding in findings if finding is not _NOTHING]
        if not told:
            return
        seen = {finding.symptom for finding in told} - {None}
        record.in_a_row = {symptom: record.in_a_row.get(symptom, 0) + 1 for symptom in Symptom if symptom in seen}
        record.good_in_a_row = 0 if seen else record.good_in_a_row + 1
        if replica.is_ejected:
            if record.good_in_a_row >= _GOOD_IN_A_ROW:
                self._readmit(replica)
            return
        reason = next((symptom for symptom, needed in _NEEDED.items() if record.in_a_row.get(symptom, 0) >= needed), None)
        if reason is not None and self._may_eject():
            self._eject(replica, reason)

    def _may_eject(self) -> bool:
        """At most half, and never the last one that takes work."""
        everyone = self._replicas.all
        ejected = sum(replica.is_ejected for replica in everyone)
        working = sum(not (replica.is_ejected or replica.is_draining or replica.breaker.is_open) for replica in everyone)
        return ejected + 1 <= len(everyone) // 2 and working > 1

    def _eject(self, replica: Replica, reason: Symptom) -> None:
        replica.is_ejected = True
        self._log.error("replica_ejected", replica=replica.address, reason=reason.value)
        self._ejected(replica.address, reason.value)

    def _readmit(self, replica: Replica) -> None:
        replica.is_ejected = False
        self._log.info("replica_readmitted", replica=replica.address)


_NEEDED: Mapping[Symptom, int] = {
    Symptom.WRONG_ANSWER: 1,  # never a matter of load
    Symptom.FAILING: _FAILING_IN_A_ROW,
    Symptom.SLOW: _SLOW_IN_A_ROW,
}


def compare(findings: Mapping[str, Finding]) -> Mapping[str, Finding]:
    """Each replica's finding for one policy in the light of the others': a symptom of all is a symptom of none."""
    if all(finding.took_s is None for finding in findings.values()):
        return dict.fromkeys(findings, _NOTHING)
    return {address: _compared(finding, _others(findings, address)) for address, finding in findings.items()}


def _others(findings: Mapping[str, Finding], address: str) -> Iterable[float]:
    return [one.took_s for other, one in findings.items() if other != address and one.took_s is not None]


def _compared(finding: Finding, others_s: Iterable[float]) -> Finding:
    times_s = list(others_s)
    if finding.took_s is None or not times_s or finding.took_s <= _SLOW_TIMES * median(times_s) + _SLOW_MARGIN_S:
        return finding
    return Finding(took_s=finding.took_s, symptom=Symptom.SLOW)
