"""The life of a request, the README's ten steps, in order. Every door hands its requests to `Pipeline.answer`; step 1 is nginx.

Each step lives in a file of its own; this one only puts them in order, keeps the time and sheds load.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from structlog.typing import FilteringBoundLogger

from control_plane.identity.principal import Principal
from control_plane.inference.account import Account, open_account
from control_plane.inference.answer import Answer
from control_plane.inference.contract import Contract
from control_plane.inference.deadline import Deadline
from control_plane.inference.guard import Guards
from control_plane.inference.in_flight import InFlight
from control_plane.inference.infer import Inference, priority_of
from control_plane.inference.observation import Inquiry, Observation, Prepared
from control_plane.inference.preprocess import Preprocessor
from control_plane.inference.seams import Admission, Authenticator, Journal, Limiter
from control_plane.inference.trace import Trace
from control_plane.policies.tensors import outputs_wanted
from control_plane.triton import TritonCall
from safety.verdict import Verdict

# A lease outlives its request's deadline by this much: time to settle it. One that was never settled frees itself then.
_LEASE_MARGIN_MS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request at a door. `parse` reads and understands it, whatever its wire."""

    trace: Trace
    authorization: str | None
    parse: Callable[[], Awaitable[Inquiry]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The ten steps over this process's neighbours."""

    in_flight: InFlight
    authenticator: Authenticator
    limiter: Limiter
    contract: Contract
    preprocessor: Preprocessor
    inference: Inference
    guards: Guards
    journal: Journal
    log: FilteringBoundLogger
    default_deadline_ms: int

    async def answer(self, call: Call) -> Answer:
        """The answer, recorded. Raises ApiError; an admitted request leaves exactly one usage event either way."""
        principal = await self._authenticate(call)  # 3, before 2: without a good key nobody sends us megabytes
        inquiry = await self._parse(call, principal)  # 2
        deadline = self._deadline(call.trace, inquiry)
        with self.in_flight.place():
            async with await self._admit(call, principal, deadline) as account:  # 4
                observation = self._contract(account, inquiry)  # 5
                prepared = await self._preprocess(account, observation)  # 6
                actions = await self._infer(account, observation, prepared, deadline)  # 7
                verdict = self._guard(account, observation, actions)  # 8
                deadline.remaining_s()  # a motion that is late is not given, and not billed
                await self._journal(account, verdict)  # 9
                return self._answer(account, observation, verdict)  # 10

    async def _parse(self, call: Call, principal: Principal) -> Inquiry:
        with self.in_flight.reading(principal.customer_id, principal.limits.concurrency):
            inquiry = await call.parse()
        call.trace.mark("parse")
        return inquiry

    async def _authenticate(self, call: Call) -> Principal:
        self.in_flight.shed()
        principal = await self.authenticator.authenticate(call.authorization)
        call.trace.customer_id = principal.customer_id
        call.trace.mark("authenticate")
        return principal

    def _deadline(self, trace: Trace, inquiry: Inquiry) -> Deadline:
        """Counted from the first byte, so a slow upload uses it up too."""
        if inquiry.deadline_ms is None:
            return Deadline(ends_s=trace.started_s + self.default_deadline_ms / 1e3)
        return Deadline(
            ends_s=trace.started_s + inquiry.deadline_ms / 1e3,
            param="deadline_ms",
            is_callers=inquiry.deadline_ms < self.default_deadline_ms,
        )

    async def _admit(self, call: Call, principal: Principal, deadline: Deadline) -> Account:
        lease_ms = int(deadline.remaining_s() * 1e3) + _LEASE_MARGIN_MS
        admitting = self.limiter.admit(principal, call.trace.public_id, lease_ms)

        def opened(admission: Admission) -> Account:
            call.trace.mark("admit")
            return Account(
                trace=call.trace,
                principal=principal,
                admission=admission,
                journal=self.journal,
                log=self.log,
                counts_lateness=deadline.is_callers,
            )

        return await open_account(admitting, opened)

    def _contract(self, account: Account, inquiry: Inquiry) -> Observation:
        observation = self.contract.check(inquiry)
        account.observation = observation
        account.trace.policy = observation.policy.name
        return observation

    async def _preprocess(self, account: Account, observation: Observation) -> Prepared:
        """`queue` is the wait for a worker thread: it grows when this process has too much to decode."""
        trace = account.trace
        trace.mark("contract")
        prepared = await self.preprocessor.prepare(observation)
        trace.mark("queue")
        trace.stages_ms["queue"] -= prepared.decode_ms + prepared.preprocess_ms
        trace.stages_ms["decode"] = prepared.decode_ms
        trace.stages_ms["preprocess"] = prepared.preprocess_ms
        return prepared

    async def _infer(
        self, account: Account, observation: Observation, prepared: Prepared, deadline: Deadline
    ) -> NDArray[np.float32]:
        manifest = observation.policy.manifest
        call = TritonCall(
            model=manifest.policy,
            version=manifest.version,
            request_id=account.trace.public_id,
            inputs=prepared.inputs,
            outputs=outputs_wanted(manifest),
            timeout_s=deadline.remaining_s(),
            priority=priority_of(account.principal.tier),
        )
        actions = await self.inference.run(call, manifest)
        account.trace.mark("compute")
        return actions

    def _guard(self, account: Account, observation: Observation, actions: NDArray[np.float32]) -> Verdict:
        verdict = self.guards.judge(observation, actions)
        account.trace.mark("guard")
        return verdict

    async def _journal(self, account: Account, verdict: Verdict) -> None:
        await account.write(verdict)
        account.trace.mark("journal")

    def _answer(self, account: Account, observation: Observation, verdict: Verdict) -> Answer:
        account.trace.stages_ms["total"] = account.trace.total_ms()
        return Answer(trace=account.trace, observation=observation, verdict=verdict, admission=account.admission)
