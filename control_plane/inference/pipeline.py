"""The life of a request, the README's ten steps, in order. Every door hands its requests to `Pipeline.answer`; step 1 is nginx.

Each step lives in a file of its own; this one only puts them in order, keeps the time and sheds load.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from control_plane.capture.collect import Capture, NoCapture
from control_plane.errors import ApiError
from control_plane.guarding.guards import InForce
from control_plane.guarding.robot_state import StateColumns
from control_plane.guarding.sessions import SessionKey, Turn
from control_plane.identity.data_policy import asked_policy
from control_plane.identity.principal import Principal, with_less_kept
from control_plane.identity.scope import require_in_scope
from control_plane.inference.account import Account, Subject, open_account
from control_plane.inference.answer import Answer
from control_plane.inference.captured import sample_of
from control_plane.inference.contract import Contract
from control_plane.inference.deadline import Deadline
from control_plane.inference.fair_queue import FairQueue
from control_plane.inference.guard import Guards, completed, context_of
from control_plane.inference.in_flight import InFlight
from control_plane.inference.infer import Inference, Motion
from control_plane.inference.observation import Inquiry, Observation, Prepared
from control_plane.inference.preprocess import Preprocessor
from control_plane.inference.seams import Admission, Authenticator, Journal, Limiter
from control_plane.inference.trace import Trace
from control_plane.policies.tensors import outputs_wanted
from control_plane.triton import TritonCall
from safety.context import Context

# A lease outlives its request's deadline by this much: time to settle it. One that was never settled frees itself then.
_LEASE_MARGIN_MS = 10_000


class Call(Struct, frozen=True, kw_only=True):
    """One request at a door. `parse` reads and understands it, whatever its wire."""

    trace: Trace
    authorization: str | None
    parse: Callable[[], Awaitable[Inquiry]]
    data_policy: str | None = None  # as the request's header has it: it may keep less, never more


class Guarded(Struct, frozen=True, kw_only=True):
    """An observation with the guard that will look at its motion, and what that guard is told."""

    observation: Observation
    guard: InForce
    context: Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The ten steps over this process's neighbours."""

    in_flight: InFlight
    authenticator: Authenticator
    limiter: Limiter
    contract: Contract
    preprocessor: Preprocessor
    fair_queue: FairQueue
    inference: Inference
    guards: Guards
    journal: Journal
    log: FilteringBoundLogger
    default_deadline_ms: int
    capture: Capture = field(default_factory=NoCapture)

    async def answer(self, call: Call) -> Answer:
        """The answer, recorded. Raises ApiError; an admitted request leaves exactly one usage event either way."""
        principal = await self._authenticate(call)  # 3, before 2: without a good key nobody sends us megabytes
        inquiry = await self._parse(call, principal)  # 2
        require_in_scope(principal, *self.contract.scope(inquiry))
        deadline = self._deadline(call.trace, inquiry, principal)
        turn = self._turn(principal, inquiry, deadline)
        with self.in_flight.place(principal.customer_id, principal.limits.concurrency), deadline:
            async with await self._admit(call, principal, deadline, turn) as account:  # 4
                guarded = self._contract(account, inquiry)  # 5
                motion = await self._act(account, guarded.observation, deadline)  # 6, 7
                self._guard(account, guarded, motion, deadline)  # 8
                deadline.remaining_s()  # a motion that is late is not given, and not billed
                await self._journal(account)  # 9
                if account.principal.data.policy.keeps_pictures:
                    self._capture(account, guarded.observation)
                return self._answer(account, guarded)  # 10

    async def _parse(self, call: Call, principal: Principal) -> Inquiry:
        with self.in_flight.reading(principal.customer_id, principal.limits.concurrency):
            inquiry = await call.parse()
        call.trace.mark("parse")
        return inquiry

    async def _authenticate(self, call: Call) -> Principal:
        self.in_flight.shed()
        principal = await self.authenticator.authenticate(call.authorization)
        if call.data_policy is not None:
            principal = with_less_kept(principal, asked_policy(call.data_policy))
        call.trace.customer_id = principal.customer_id
        call.trace.mark("authenticate")
        return principal

    def _deadline(self, trace: Trace, inquiry: Inquiry, principal: Principal) -> Deadline:
        """The request's, else the customer's, else the service's. Counted from the first byte: a slow upload uses it up too."""
        asked_ms = inquiry.deadline_ms or principal.deadline_ms or self.default_deadline_ms
        return Deadline(
            ends_s=trace.started_s + asked_ms / 1e3,
            param=None if inquiry.deadline_ms is None else "deadline_ms",
            is_callers=asked_ms < self.default_deadline_ms,
        )

    def _turn(self, principal: Principal, inquiry: Inquiry, deadline: Deadline) -> Turn | None:
        """The request's turn in its session; it is opened by the admission. Without a `session_id` there is none."""
        if inquiry.session_id is None:
            return None
        _, robot = self.contract.scope(inquiry)
        policy = self.contract.offer.scope(principal, inquiry.model, session_id=inquiry.session_id)
        session = f"\0test\0{inquiry.session_id}" if principal.is_test else inquiry.session_id  # apart from a live robot's
        key = SessionKey(customer_id=principal.customer_id, policy=policy, robot_type=robot, session_id=session)
        hold_ms = _lease_ms(deadline)
        return Turn(key, seq=inquiry.seq, hold_ms=hold_ms, keeps_content=not principal.is_zero_retention)

    async def _admit(self, call: Call, principal: Principal, deadline: Deadline, turn: Turn | None) -> Account:
        admitting = self.limiter.admit(principal, call.trace.public_id, _lease_ms(deadline), beside=turn)

        def opened(admission: Admission) -> Account:
            call.trace.mark("admit")
            return Account(
                trace=call.trace,
                principal=principal,
                admission=admission,
                journal=self.journal,
                log=self.log,
                turn=turn,
                counts_lateness=deadline.is_callers,
            )

        return await open_account(admitting, opened)

    def _contract(self, account: Account, inquiry: Inquiry) -> Guarded:
        """What the request alone can be refused for is refused here, before it costs any inference."""
        if account.turn is not None and account.turn.is_replayed:
            raise ApiError("sequence_replayed", param="seq")
        observation = self.contract.check(inquiry, account.principal)
        account.subject = Subject(
            policy_version=observation.policy.manifest.version,
            robot_type=observation.robot_type,
            instruction=observation.instruction,
            session_id=observation.session_id,
        )
        account.trace.policy = observation.policy.name
        guard = self.guards.choose(account.principal, observation.policy, observation.robot_type, observation.safety)
        if observation.state is None and observation.safety is not None:
            guard = replace(guard, columns=StateColumns())  # the state is told in `safety`, and is complained about there
        is_kept = not account.principal.is_zero_retention
        self.guards.inspect_instruction(guard, observation.instruction, account.trace, is_kept=is_kept)
        context = context_of(guard, observation, account.turn)
        self.guards.inspect(guard, context)
        return Guarded(observation=observation, guard=guard, context=context)

    async def _preprocess(self, account: Account, observation: Observation) -> Prepared:
        """`queue` is the wait for a worker thread: it grows when this process has too much to decode."""
        trace = account.trace
        prepared = await self.preprocessor.prepare(observation)
        trace.mark("queue")
        trace.stages_ms["queue"] -= prepared.decode_ms + prepared.preprocess_ms
        trace.stages_ms["decode"] = prepared.decode_ms
        trace.stages_ms["preprocess"] = prepared.preprocess_ms
        return prepared

    async def _act(self, account: Account, observation: Observation, deadline: Deadline) -> Motion:
        """Both steps that cost much are behind the fair queue: decoding threads are shared out like Triton is."""
        account.trace.mark("contract")
        async with self.fair_queue.slot(observation.policy.model, account.principal, deadline) as slot:
            if slot.has_waited:
                account.trace.mark("fair_queue")
            prepared = await self._preprocess(account, observation)
            call = self._call(account, observation, prepared, deadline, priority=slot.priority)
            motion = await self.inference.run(call, observation.policy.manifest)
        account.trace.mark("compute")
        return motion

    def _call(
        self, account: Account, observation: Observation, prepared: Prepared, deadline: Deadline, *, priority: int
    ) -> TritonCall:
        manifest = observation.policy.manifest
        return TritonCall(
            model=observation.policy.model,
            version=manifest.version,
            request_id=account.trace.public_id,
            inputs=prepared.inputs,
            outputs=outputs_wanted(manifest),
            timeout_s=deadline.remaining_s(),
            priority=priority,
        )

    def _guard(self, account: Account, guarded: Guarded, motion: Motion, deadline: Deadline) -> None:
        context = completed(guarded.context, account.turn, account.trace, motion.tokens)
        policy = guarded.observation.policy.name
        account.context = context
        account.verdict = self.guards.judge(guarded.guard, policy, motion.actions, context=context, deadline=deadline)
        account.trace.mark("guard")

    async def _journal(self, account: Account) -> None:
        await account.write()
        account.trace.mark("journal")

    def _capture(self, account: Account, observation: Observation) -> None:
        """For customers who let us keep pictures; it neither waits nor raises."""
        if self.capture.rules is not None:
            sample = sample_of(self.capture.rules, account, observation, account.context.tokens)
            if sample is not None:
                self.capture.offer(sample)

    def _answer(self, account: Account, guarded: Guarded) -> Answer:
        account.trace.stages_ms["total"] = account.trace.total_ms()
        return Answer(
            trace=account.trace,
            observation=guarded.observation,
            verdict=account.judged(),
            admission=account.admission,
            is_rejection_an_error=guarded.guard.is_rejection_an_error,
            is_test=account.principal.is_test,
        )


def _lease_ms(deadline: Deadline) -> int:
    return int(deadline.remaining_s() * 1e3) + _LEASE_MARGIN_MS
