"""Step 8: the safety verdict on the motion, by the guard in force for this request. Fails closed.

What the request alone can be refused for (its instruction, an impossible state, a replayed `seq`) is refused before any
inference. Knows no rule: those are `safety`'s; which guard is in force is `guarding`'s.
"""

import hashlib
from dataclasses import replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from structlog.typing import FilteringBoundLogger

from control_plane.errors import ApiError
from control_plane.guarding.fields import LimitFields
from control_plane.guarding.guards import GuardsInForce, InForce
from control_plane.guarding.robot_state import robot_state
from control_plane.guarding.sessions import Turn
from control_plane.identity.principal import Principal
from control_plane.inference.deadline import Deadline
from control_plane.inference.observation import Observation
from control_plane.inference.trace import Trace
from control_plane.metrics import Metrics
from control_plane.policies.catalogue import ServedPolicy
from control_plane.tallies import Counts
from safety.action_space import ActionSpace, UnsupportedActionSpaceError
from safety.context import NOTHING_KNOWN, Context, TokenEvidence
from safety.rules.names import G1
from safety.verdict import NotEvaluated, RefusedFor, RuleStatus, Verdict

# What a fault in the guard's arithmetic can raise. Anything else becomes internal_error, which gives no action either.
_FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
_NOTABLE = frozenset({RuleStatus.WARNED, RuleStatus.CLAMPED, RuleStatus.TRUNCATED, RuleStatus.REJECTED})


class Guards:
    """Every guard of the process, and what is told about them."""

    def __init__(self, *, in_force: GuardsInForce, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self.in_force = in_force
        self._log = log
        tallies = metrics.tallies
        self._decisions, self._rules = Counts(metrics.guard_decisions, tallies), Counts(metrics.guard_rules, tallies)
        self._unseen = Counts(metrics.guard_not_evaluated, tallies)

    def choose(self, principal: Principal, policy: ServedPolicy, robot: str, asked: LimitFields | None) -> InForce:
        """The guard of this request. Raises ApiError: invalid_safety for limits that do not fit, else guard_unavailable."""
        if principal.safety is None and asked is None:
            return self.in_force.base[policy.model, robot]
        try:
            return self.in_force.of(policy, robot, customer_id=principal.customer_id, stored=principal.safety, asked=asked)
        except _FAULTS:
            self._log.exception("guard_not_built", policy=policy.name, robot_type=robot)
            raise _unavailable() from None

    def choose_for(self, principal: Principal, space: ActionSpace, robot: str, asked: LimitFields | None) -> InForce:
        """The same for actions of no policy served here. Raises unknown_robot too."""
        if robot not in self.in_force.profiles:
            raise ApiError("unknown_robot", f"There is no safety profile for robot '{robot}'.", param="robot_type")
        try:
            return self.in_force.of_space(space, robot, stored=principal.safety, asked=asked)
        except UnsupportedActionSpaceError as error:
            raise ApiError("invalid_field", f"action.{error.field}: {error.fault}."[:300], param="action") from None
        except _FAULTS:
            self._log.exception("guard_not_built", robot_type=robot)
            raise _unavailable() from None

    def inspect_instruction(self, chosen: InForce, instruction: str, trace: Trace, *, is_kept: bool) -> None:
        """Raises instruction_refused. The text is not logged, only what it matched and, where it may be kept, its hash."""
        if chosen.instructions is None:
            return
        verdict = chosen.instructions.judge(instruction)
        if not verdict.is_refused:
            return
        self._rules[G1, RuleStatus.REJECTED.value].inc()
        digest = hashlib.sha256(instruction.encode()).hexdigest() if is_kept else None
        self._log.info(
            "instruction_refused",
            request_id=trace.public_id,
            rule=verdict.rule,
            category=verdict.category,
            list_version=verdict.list_version,
            instruction_sha256=digest,
        )
        category = "" if verdict.category is None else f" (category {verdict.category}, list {verdict.list_version})"
        raise ApiError("instruction_refused", f"Refused by rule {verdict.rule}{category}.", param="instruction")

    def inspect(self, chosen: InForce, context: Context) -> None:
        """What the context alone is refused for. Raises invalid_state, sequence_replayed, guard_unavailable."""
        if context is NOTHING_KNOWN:
            return
        try:
            verdict = chosen.guard.check_context(context)
        except _FAULTS:
            self._log.exception("guard_failed")
            raise _unavailable() from None
        if verdict is not None:
            self._refuse_request(chosen, verdict)

    def judge(
        self, chosen: InForce, policy: str, actions: NDArray[np.floating], *, context: Context, deadline: Deadline
    ) -> Verdict:
        """What may be sent to the robot. Raises guard_unavailable rather than let an unchecked or late motion pass."""
        left_s, began_s = deadline.remaining_s(), perf_counter()
        try:
            verdict = chosen.guard.check(actions, context)
        except _FAULTS:
            self._log.exception("guard_failed", policy=policy)
            raise _unavailable() from None
        if perf_counter() - began_s > left_s:
            self._log.error("guard_too_slow", policy=policy)
            raise _unavailable()
        self._count(policy, verdict)
        if verdict.refused_for is not None and verdict.refused_for.is_request_at_fault:
            self._refuse_request(chosen, verdict)
        return verdict

    def _count(self, policy: str, verdict: Verdict) -> None:
        self._decisions[policy, verdict.decision].inc()
        unseen: dict[NotEvaluated, int] = {}
        for rule in verdict.rules:
            reason = rule.reason
            if reason is not None:
                unseen[reason] = unseen.get(reason, 0) + 1
            elif rule.status in _NOTABLE:
                self._rules[rule.id, rule.status].inc()
        for reason, count in unseen.items():
            self._unseen[reason,].inc(count)

    def _refuse_request(self, chosen: InForce, verdict: Verdict) -> None:
        at_fault = next((rule for rule in verdict.rules if rule.status is RuleStatus.REJECTED), None)
        message = None if at_fault is None or at_fault.message is None else f"{at_fault.message}."
        if verdict.refused_for is RefusedFor.SEQUENCE:
            raise ApiError("sequence_replayed", message, param=verdict.refused_field or "seq")
        field = verdict.refused_field or "state"
        own = chosen.columns.field_of(field)
        raise ApiError("invalid_state", message, param=own or f"{chosen.state_path}{field}")


def _unavailable() -> ApiError:
    return ApiError("guard_unavailable", retry_after_ms=1000)


def context_of(chosen: InForce, observation: Observation, turn: Turn | None) -> Context:
    """Everything the request and its session tell, before inference. NOTHING_KNOWN when that is nothing. Raises invalid_state."""
    told = observation.safety
    if turn is None and told is None and observation.state is None and observation.obs_age_ms is None:
        return NOTHING_KNOWN
    state, given_twice = robot_state(chosen.columns, observation.state, None if told is None else told.state)
    if given_twice is not None:
        raise ApiError("invalid_state", f"{given_twice} is told by state already.", param=given_twice)
    return Context(
        state=state,
        previous=None if turn is None else turn.previous,
        seq=observation.seq,
        executed_index=observation.executed_index,
        obs_age_ms=observation.obs_age_ms,
        network_rtt_ms=observation.network_rtt_ms,
        control_hz=None if told is None else told.control_hz,
        image_hash=None if turn is None else _image_hash(observation),
    )


def completed(context: Context, turn: Turn | None, trace: Trace, tokens: TokenEvidence | None) -> Context:
    """The context with what is known only when the motion is there: the times, and how sure a policy of tokens was."""
    if context is NOTHING_KNOWN:
        return context if tokens is None else Context(tokens=tokens)
    return replace(context, now_s=None if turn is None else turn.now_s(), server_ms=trace.total_ms(), tokens=tokens)


def _image_hash(observation: Observation) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for picture in observation.pictures:
        content = picture.data if isinstance(picture.data, bytes) else np.ascontiguousarray(picture.data).data
        digest.update(memoryview(content).nbytes.to_bytes(8, "big"))
        digest.update(content)
    return digest.hexdigest()
