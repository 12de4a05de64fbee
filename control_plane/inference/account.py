"""Steps 4 and 9: an admitted request and its one usage event, written exactly once however the request ends.

Answered or refused by the guard: the pipeline writes it before the answer leaves. Anything else (a 4xx, a time-out, our fault, a
caller who hung up): it is written on the way out, and what was our fault is given back to the caller's limits.
"""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from msgspec import Struct
from redis.asyncio.client import Pipeline
from structlog.typing import FilteringBoundLogger

from control_plane.errors import ApiError
from control_plane.guarding.sessions import Turn
from control_plane.identity.principal import Principal
from control_plane.inference.seams import Admission, Journal
from control_plane.inference.trace import UNKNOWN, Trace
from control_plane.redis import Commands
from control_plane.usage.event import SCHEMA, TEST_SCHEMA, UsageEvent, UsageStatus
from control_plane.usage.request_id import instant_of
from safety.context import NOTHING_KNOWN, Context
from safety.memory import remembered
from safety.verdict import Decision, Verdict

_T = TypeVar("_T")

CANCELLED = "cancelled"  # the caller hung up, or this process is stopping
_ENDED_AS = {"timeout": UsageStatus.TIMEOUT, "internal": UsageStatus.ERROR, "unavailable": UsageStatus.ERROR}


class Subject(Struct, frozen=True, kw_only=True):
    """What an admitted request turned out to be about."""

    policy_version: int
    robot_type: str
    instruction: str | None = None
    session_id: str | None = None


_UNKNOWN_SUBJECT = Subject(policy_version=0, robot_type=UNKNOWN)


class Account:
    """One admitted request. Use as `async with`; `subject`, `context` and `verdict` are filled in once they are known."""

    def __init__(
        self,
        *,
        trace: Trace,
        principal: Principal,
        admission: Admission,
        journal: Journal,
        log: FilteringBoundLogger,
        turn: Turn | None = None,
        counts_lateness: bool = False,
    ) -> None:
        """`counts_lateness`: the caller allowed less time than is promised, so a late answer is not given back."""
        self.trace = trace
        self.principal = principal
        self.admission = admission
        self.turn = turn
        self.subject = _UNKNOWN_SUBJECT
        self.context: Context = NOTHING_KNOWN
        self.verdict: Verdict | None = None
        self._journal = journal
        self._log = log
        self._counts_lateness = counts_lateness
        self._is_written = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, failure: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Writes off a request that failed; the failure itself goes on its way."""
        if failure is None:
            return
        if isinstance(failure, ApiError):
            failure.headers.update(self.admission.headers())
        if not self._is_written:
            await self._write_off(failure)

    def judged(self) -> Verdict:
        """The verdict, once there is one."""
        if self.verdict is None:
            raise RuntimeError("the guard has not looked yet")
        return self.verdict

    async def write(self, status: UsageStatus | None = None) -> None:
        """The event of a request that reached a verdict; on return it is durable. Raises ApiError `journal_unavailable`."""
        verdict, turn = self.judged(), self.turn
        if status is None:
            status = UsageStatus.REFUSED if verdict.decision is Decision.REJECT else UsageStatus.SUCCESS
        is_billed = status is UsageStatus.SUCCESS and not self.principal.is_test
        settle = self.admission.settle_into if is_billed else self.admission.settle_unbilled_into
        together_with: Commands = settle
        if turn is not None:
            kept = remembered(self.context, verdict)

            def together_with(pipeline: Pipeline) -> None:
                settle(pipeline)
                turn.keep_into(pipeline, kept)

        # Tried once: a failed write may have arrived all the same, and a second, different event would contradict it.
        self._is_written = self.trace.is_recorded = True
        await to_the_end(self._journal.record(self._event(status, verdict=verdict), together_with=together_with))

    async def _write_off(self, failure: BaseException) -> None:
        status, code, is_our_fault = _ending(failure)
        is_given_back = is_our_fault and not (status is UsageStatus.TIMEOUT and self._counts_lateness)
        end = self.admission.give_back_into if is_given_back else self.admission.settle_unbilled_into

        def together_with(pipeline: Pipeline) -> None:
            end(pipeline)
            if self.turn is not None:
                self.turn.leave_into(pipeline)

        self._is_written = True
        try:
            await to_the_end(self._journal.record(self._event(status, error_code=code), together_with=together_with))
        except ApiError as unwritten:
            self._log.error("usage_event_not_written", request_id=self.trace.public_id, status=status, code=unwritten.kind.code)

    def _event(self, status: UsageStatus, *, verdict: Verdict | None = None, error_code: str | None = None) -> UsageEvent:
        trace, subject = self.trace, self.subject
        is_kept = not self.principal.is_zero_retention
        is_said = is_kept and error_code != "instruction_refused"  # its hash is in the log, with what it matched
        is_acted_on = is_kept and status is UsageStatus.SUCCESS
        is_changed = is_kept and status is not UsageStatus.CHECKED and verdict is not None and verdict.is_modified
        raw = verdict.raw if verdict is not None and is_changed else None
        return UsageEvent(
            request_id=trace.request_id,
            customer_id=self.principal.customer_id,
            key_id=self.principal.key_id,
            occurred_at=instant_of(trace.request_id),
            route=trace.route,
            policy=trace.policy,
            policy_version=subject.policy_version,
            robot_type=subject.robot_type,
            status=status,
            latency_ms=trace.total_ms(),
            compute_ms=trace.stages_ms.get("compute"),
            instruction=subject.instruction if is_said else None,
            action=verdict.actions.tolist() if verdict is not None and is_acted_on else None,
            raw_action=None if raw is None else raw.tolist(),
            decision=None if verdict is None else verdict.decision.value,
            safety_score=None if verdict is None else verdict.overall_score,
            limiting_rule=None if verdict is None else verdict.limiting_rule,
            error_code=error_code,
            session_id=subject.session_id if is_kept else None,
            is_test=self.principal.is_test,
            is_idempotent=trace.is_idempotent,
            schema=TEST_SCHEMA if self.principal.is_test else SCHEMA,
        )


def _ending(failure: BaseException) -> tuple[UsageStatus, str, bool]:
    """How the request ended, its code, and whether that was our fault."""
    if isinstance(failure, ApiError):
        status = _ENDED_AS.get(failure.kind.type, UsageStatus.INVALID)
        return status, failure.kind.code, status is not UsageStatus.INVALID
    if isinstance(failure, asyncio.CancelledError):
        return UsageStatus.ERROR, CANCELLED, False
    return UsageStatus.ERROR, "internal_error", True


async def open_account(admitting: Coroutine[Any, Any, Admission], opened: Callable[[Admission], Account]) -> Account:
    """The account of an admitted request. A caller who hangs up meanwhile leaves no place taken and no request uncounted."""
    task = asyncio.get_running_loop().create_task(admitting)
    try:
        return opened(await asyncio.shield(task))
    except asyncio.CancelledError as cancelled:
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is None:
            await opened(task.result()).__aexit__(type(cancelled), cancelled, None)
        raise


async def to_the_end(work: Coroutine[Any, Any, _T]) -> _T:
    """Awaits `work`; a cancellation that comes meanwhile is delivered after it, never in its middle."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
