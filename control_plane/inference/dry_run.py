"""A dry run of the guard: a motion that the caller brings is judged as a policy's would be, and nothing is inferred.

Authenticated, admitted and recorded as any request (status `checked`, never billed); it neither reads nor writes what a session
remembers: the previous chunk is the caller's to bring. Fails closed like step 8. Knows no HTTP.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray
from structlog.typing import FilteringBoundLogger

from control_plane.errors import ApiError
from control_plane.guarding.fields import JOINTS_MAX, LimitFields, Number, StateFields
from control_plane.guarding.guards import InForce
from control_plane.guarding.robot_state import StateColumns
from control_plane.identity.data_policy import asked_policy
from control_plane.identity.principal import Principal, unbilled, with_less_kept
from control_plane.identity.scope import require_in_scope
from control_plane.inference.account import Account, Subject, open_account
from control_plane.inference.deadline import Deadline
from control_plane.inference.fields import AgeMs, ExecutedIndex, Name, Sequence
from control_plane.inference.guard import Guards
from control_plane.inference.in_flight import InFlight
from control_plane.inference.seams import Admission, Authenticator, Journal, Limiter
from control_plane.inference.trace import Trace
from control_plane.policies.offer import Offer
from control_plane.usage.event import UsageStatus
from safety.action_space import ActionKind, ActionSpace, GripperPolarity, UnsupportedActionSpaceError
from safety.context import Context, PreviousChunk, RobotState
from safety.verdict import Verdict

STEPS_MAX, COLUMNS_MAX = 1000, 64
LEASE_MS = 12_000

Rows = Annotated[list[Annotated[list[float], Meta(max_length=COLUMNS_MAX)]], Meta(max_length=STEPS_MAX)]
_Words = Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=COLUMNS_MAX)]


class ActionFields(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What the numbers mean, where they are not those of a model served here."""

    kind: ActionKind
    names: _Words
    units: _Words
    control_hz: Annotated[float, Meta(gt=0, le=1000)]
    gripper_polarity: GripperPolarity | None = None
    frame: Annotated[str, Meta(max_length=64)] | None = None  # "robot_base", or positions cannot be followed


class PreviousFields(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The chunk that was accepted before this one."""

    actions: Rows
    age_ms: AgeMs  # since it was sent
    seq: Sequence | None = None
    q: Annotated[list[Number], Meta(max_length=JOINTS_MAX)] | None = None
    ee_position: Annotated[list[Number], Meta(max_length=JOINTS_MAX)] | None = None


class CheckFields(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The body: `actions`, and either `model` (the default one if absent) or `action`. null is as good as left out."""

    actions: Rows
    model: Name | None = None
    action: ActionFields | None = None
    robot_type: Name | None = None
    instruction: Annotated[str, Meta(max_length=4096)] | None = None
    state: StateFields | None = None
    previous: PreviousFields | None = None
    seq: Sequence | None = None
    executed_index: ExecutedIndex | None = None
    obs_age_ms: AgeMs | None = None
    network_rtt_ms: AgeMs | None = None
    control_hz: Annotated[float, Meta(gt=0, le=1000)] | None = None
    safety: LimitFields | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What came out."""

    trace: Trace
    model: str | None
    robot_type: str
    verdict: Verdict
    admission: Admission


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """The dry run over this process's neighbours."""

    in_flight: InFlight
    authenticator: Authenticator
    limiter: Limiter
    offer: Offer
    guards: Guards
    journal: Journal
    log: FilteringBoundLogger
    default_robot: str
    time_limit_s: float

    async def answer(
        self,
        trace: Trace,
        authorization: str | None,
        parse: Callable[[], Awaitable[CheckFields]],
        *,
        data_policy: str | None = None,
    ) -> Checked:
        """The verdict, recorded. Raises ApiError; an admitted dry run leaves exactly one usage event either way."""
        self.in_flight.shed()
        principal = await self.authenticator.authenticate(authorization)
        if data_policy is not None:
            principal = with_less_kept(principal, asked_policy(data_policy))
        trace.customer_id = principal.customer_id
        trace.mark("authenticate")
        with self.in_flight.reading(principal.customer_id, principal.limits.concurrency):
            asked = await parse()
        robot = asked.robot_type or self.default_robot
        require_in_scope(principal, None if asked.action else self.offer.name_of(asked.model), robot)
        trace.mark("parse")
        with self.in_flight.place(principal.customer_id, principal.limits.concurrency):
            async with await self._admit(trace, principal) as account:
                verdict, model, robot = self._judge(account, asked)
                account.verdict = verdict
                trace.mark("guard")
                await account.write(UsageStatus.CHECKED)
                trace.mark("journal")
                trace.stages_ms["total"] = trace.total_ms()
                return Checked(trace=trace, model=model, robot_type=robot, verdict=verdict, admission=account.admission)

    async def _admit(self, trace: Trace, principal: Principal) -> Account:
        def opened(admission: Admission) -> Account:
            trace.mark("admit")
            return Account(trace=trace, principal=principal, admission=admission, journal=self.journal, log=self.log)

        return await open_account(self.limiter.admit(unbilled(principal), trace.public_id, LEASE_MS), opened)

    def _judge(self, account: Account, asked: CheckFields) -> tuple[Verdict, str | None, str]:
        chosen, model, robot = self._choose(account, asked)
        chosen = replace(chosen, columns=StateColumns(), state_path="")
        if asked.instruction is not None:
            is_kept = not account.principal.is_zero_retention
            self.guards.inspect_instruction(chosen, asked.instruction, account.trace, is_kept=is_kept)
        context = _context(asked)
        self.guards.inspect(chosen, context)
        deadline = Deadline(ends_s=perf_counter() + self.time_limit_s)
        actions = _array(asked.actions, "actions", dtype=np.float64)
        return self.guards.judge(chosen, account.trace.policy, actions, context=context, deadline=deadline), model, robot

    def _choose(self, account: Account, asked: CheckFields) -> tuple[InForce, str | None, str]:
        robot = asked.robot_type or self.default_robot
        if asked.action is not None:
            if asked.model is not None:
                raise ApiError("invalid_field", "Give either model or action.", param="action")
            chosen = self.guards.choose_for(account.principal, _space(asked.action), robot, asked.safety)
            account.subject = Subject(policy_version=0, robot_type=robot)
            return chosen, None, robot
        policy = self.offer.choose(account.principal, asked.model)
        if robot not in policy.manifest.robots:
            fitting = ", ".join(policy.manifest.robots)
            raise ApiError("unknown_robot", f"The model does not fit robot '{robot}'; it fits {fitting}.", param="robot_type")
        account.trace.policy = policy.name
        account.subject = Subject(policy_version=policy.manifest.version, robot_type=robot)
        return self.guards.choose(account.principal, policy, robot, asked.safety), policy.name, robot


def _space(fields: ActionFields) -> ActionSpace:
    try:
        return ActionSpace(
            kind=fields.kind,
            names=tuple(fields.names),
            units=tuple(fields.units),
            control_hz=fields.control_hz,
            gripper_polarity=fields.gripper_polarity,
            frame=fields.frame,
        )
    except UnsupportedActionSpaceError as error:
        raise ApiError("invalid_field", f"action.{error.field}: {error.fault}."[:300], param=f"action.{error.field}") from None


def _context(asked: CheckFields) -> Context:
    """The clock starts at the previous chunk; without one there is no time that would mean anything."""
    state, previous = asked.state, asked.previous
    told = None if state is None else RobotState(q=state.q, ee_position=state.ee_position, gripper=state.gripper)
    return Context(
        state=told,
        previous=None if previous is None else _previous(previous),
        seq=asked.seq,
        executed_index=asked.executed_index,
        now_s=None if previous is None else previous.age_ms / 1e3,
        obs_age_ms=asked.obs_age_ms,
        server_ms=0.0,
        network_rtt_ms=asked.network_rtt_ms,
        control_hz=asked.control_hz,
    )


def _previous(fields: PreviousFields) -> PreviousChunk:
    actions = _array(fields.actions, "previous.actions", dtype=np.float32)
    if actions.ndim != 2 or not actions.size or not np.isfinite(actions).all():
        raise ApiError("invalid_field", "previous.actions must be finite numbers.", param="previous.actions")
    return PreviousChunk(
        actions=actions.astype(np.float32),
        sent_at_s=0.0,
        seq=fields.seq,
        q=None if fields.q is None else tuple(fields.q),
        ee_position=None if fields.ee_position is None else tuple(fields.ee_position),
    )


def _array(rows: list[list[float]], param: str, *, dtype: type[np.floating]) -> NDArray[np.floating]:
    """Rows of one length as an array; numbers that are none are the guard's to refuse."""
    if len({len(row) for row in rows}) > 1:
        raise ApiError("invalid_field", f"{param}: every step must have as many numbers.", param=param)
    with np.errstate(over="ignore"):
        return np.array(rows, dtype=np.float64).astype(dtype)
