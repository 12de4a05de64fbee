"""The action guard: any object in, a verdict out. `Guard(profile, preset, action_space)` once per (policy, robot), then `check`.

It compares numbers with configured limits: refuses what is no plausible motion, scales what is too fast, ends a chunk where its
path must end, returns the rest bit for bit, and says what it could not look at. Knows no HTTP, policy or store.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from safety.action_space import ActionKind, ActionSpace
from safety.context import NOTHING_KNOWN, Context
from safety.hold import hold
from safety.known import Fault, Known, read
from safety.layering import GuardPolicy, base_policy
from safety.robot import Preset, RobotProfile
from safety.rules.arm import arms_of
from safety.rules.catalogue import WATCHED_BY_A4, RuleSet, rule_set
from safety.rules.clamped_share import ClampedShare
from safety.rules.integrity import ShapeDtype, UnitSuspect
from safety.rules.names import D0, D8, E3, E4, E5
from safety.rules.post_check import PostCheck
from safety.rules.rule import Evidence, Rule, Severity, Standing, evidence_of, not_evaluated
from safety.rules.session import TRACKING_M, TRACKING_RAD, ObservationFrozen, is_frozen, step_scale
from safety.rules.timing import age_ms
from safety.verdict import Coverage, Decision, NotEvaluated, RefusedFor, RuleResult, RuleStatus, Verdict

GUARD_VERSION = "1.0.0"
HASH_CHARS = 16
_FAULT_RULE = {RefusedFor.STATE: D0, RefusedFor.SEQUENCE: E5}
Results = list[RuleResult]


class Guard:
    """Immutable after construction and free of state, so one serves all threads. Costs some 20 µs for a chunk that passes."""

    def __init__(
        self,
        profile: RobotProfile,
        preset: Preset,
        action_space: ActionSpace,
        *,
        policy: GuardPolicy | None = None,
        rules: RuleSet | None = None,
    ) -> None:
        """`policy` is what `safety.layering.layered` made of this profile and preset; `rules` replaces the catalogue's rules.

        Raises UnsupportedActionSpaceError when the action space does not fit the robot.
        """
        self.policy = policy or base_policy(profile, preset)
        self.limits = self.policy.limits
        self.action_space = action_space
        layers = "".join(f"+{name}" for name in self.policy.layers)
        version = f"{profile.robot_type}@{profile.version}/sha256:{profile.content_hash[:HASH_CHARS]}"
        self.profile_id = f"{version}+preset:{preset}{layers}"
        self._rules = rules or rule_set(action_space, profile, self.policy)
        self._arms = arms_of(profile, self.policy, action_space)
        self.step_scale = step_scale(action_space, self._arms)
        self._shape = ShapeDtype(width=action_space.width)
        self._units = UnitSuspect(watched=WATCHED_BY_A4)
        self._share = ClampedShare()
        self._post = PostCheck()
        self._binding = tuple(
            rule
            for rule in (*self._rules.integrity, *self._rules.motion, *self._rules.stateful)
            if rule.severity is not Severity.WARN
        )
        self._cutting = tuple(rule for rule in self._binding if rule.severity is Severity.TRUNCATE)
        self._ageing = tuple(rule for rule in self._rules.stateful if rule.id == E3)  # a shorter chunk is past sooner
        self._is_plain = not (self.policy.required_rules or self.policy.refuse_on_warning)
        self._without_context = self._blind_results()
        self._unreached = self._all_unreached(is_known=True)
        self._unreached_without_context = self._all_unreached(is_known=False)
        self._empty = np.empty((0, action_space.width), dtype=np.float32)
        self._empty.flags.writeable = False

    def check(self, raw: object, context: Context = NOTHING_KNOWN) -> Verdict:
        """The verdict on a chunk, meant to be a (T, D) array. Never raises and never changes `raw`.

        A context that cannot be (D0, E5) refuses before the chunk is looked at: see `Verdict.refused_for`.
        """
        with np.errstate(all="ignore"):  # overflow in the cast is what A2 looks for; no caller's setting may make it raise
            if context is NOTHING_KNOWN:
                return self._check(raw, None)
            known = read(context, self.action_space, self._arms)
            return self._fault(known) if isinstance(known, Fault) else self._check(raw, known)

    def check_context(self, context: Context) -> Verdict | None:
        """The refusal that this context alone brings (`invalid_state` or `sequence`), None if there is none: before inference."""
        with np.errstate(all="ignore"):
            known = read(context, self.action_space, self._arms)
            return self._fault(known) if isinstance(known, Fault) else None

    def _check(self, raw: object, known: Known | None) -> Verdict:
        wire = self._shape.read(raw)
        if isinstance(wire, RuleResult):
            return self._refusal([wire], known, None)
        evidence = evidence_of(wire, known)
        results = [self._shape.ok]
        for rule in self._rules.integrity:
            results.append(rule.evaluate(evidence))
            if results[-1].status is RuleStatus.REJECTED:
                return self._refusal(results, known, wire)
        looked = [rule.evaluate(evidence) for rule in self._rules.motion]
        blind = self._without_context
        if known is not None or not self._is_plain:
            blind = ()
            looked += self._without_context if known is None else [rule.evaluate(evidence) for rule in self._rules.stateful]
            looked = [self._demanded(result) for result in looked]
        statuses = [result.status for result in looked]
        results += (self._units.judge(looked), *looked)
        if RuleStatus.REJECTED in statuses:
            return self._refusal(results, known, wire)
        if RuleStatus.CLAMPED in statuses or RuleStatus.TRUNCATED in statuses:
            return self._changed(evidence, results, wire)
        if known is not None:
            results = self._ordered([*results, self._share.ok, self._post.ok], known)
            return self._verdict(Decision.PASS, wire, results, known, wire)
        return self._verdict(Decision.PASS, wire, [*results, self._share.ok, self._post.ok], None, wire, blind=blind)

    def _demanded(self, result: RuleResult) -> RuleResult:
        """What the customer asked for on top: a required rule must look, some warnings refuse."""
        if result.status is RuleStatus.NOT_EVALUATED and result.id in self.policy.required_rules:
            message = f"{result.id} is required and could not be evaluated: {result.reason}"
            return replace(result, status=RuleStatus.REJECTED, score=0.0, message=message)
        if result.status is RuleStatus.WARNED and result.id in self.policy.refuse_on_warning:
            return replace(result, status=RuleStatus.REJECTED, score=0.0)
        return result

    def _changed(self, evidence: Evidence, results: Results, wire: NDArray[np.float32]) -> Verdict:
        """Clamps, cuts, and looks again."""
        known = evidence.known
        broken = {result.id for result in results if result.status is RuleStatus.CLAMPED}
        returned, shortened = (wire, 0) if not broken else self._clamped(evidence, broken)
        results.append(self._share.judge(shortened=shortened, steps=len(returned)))
        if results[-1].status is RuleStatus.REJECTED:
            return self._refusal(results, known, wire)
        cuts = [result.at[0] for result in results if result.status is RuleStatus.TRUNCATED and result.at is not None]
        final = evidence_of(returned, known)
        if cuts or (broken and self._cutting):
            returned, final, results = self._cut(returned, final, results, min([*cuts, len(returned)]))
            if any(result.status is RuleStatus.REJECTED for result in results):
                return self._refusal(results, known, wire)
        results.append(self._post.judge(self._binding, final))
        if results[-1].status is RuleStatus.REJECTED:
            return self._refusal(results, known, wire)
        is_cut = len(returned) < len(wire)
        truncated_at = len(returned) if is_cut else None
        if is_cut and self.action_space.kind is ActionKind.JOINT_VEL:
            returned = self._stopped(returned)
        decision = Decision.TRUNCATE if is_cut else Decision.CLAMP
        return self._verdict(decision, returned, self._ordered(results, known), known, wire, truncated_at=truncated_at)

    def _clamped(self, evidence: Evidence, broken: set[str]) -> tuple[NDArray[np.float32], int]:
        """What is left after every broken limit was enforced, and how many steps became shorter."""
        actions = evidence.actions.copy()
        shortened = np.zeros(len(actions), dtype=np.bool_)
        for clamp in self._rules.clamps:
            if not broken.isdisjoint(clamp.enforces):
                steps = clamp.clamp(actions, evidence)
                if steps is not None:
                    shortened |= steps
        return actions.astype(np.float32), int(np.count_nonzero(shortened))

    def _cut(
        self, returned: NDArray[np.float32], evidence: Evidence, results: Results, length: int
    ) -> tuple[NDArray[np.float32], Evidence, Results]:
        """Shortens until no path rule finds anything in what is left. A rule that then refuses replaces its earlier result."""
        while True:
            if length < len(returned):
                returned = returned[:length]
                evidence = evidence_of(returned, evidence.known)
            found = [evidence.result_of(rule) for rule in (*self._cutting, *self._ageing)]
            refused = {result.id: result for result in found if result.status is RuleStatus.REJECTED}
            if refused:
                return returned, evidence, [refused.get(result.id, result) for result in results]
            cut = {result.id: result for result in found if result.status is RuleStatus.TRUNCATED}
            if not cut:
                return returned, evidence, results
            length = min(result.at[0] for result in cut.values() if result.at is not None)
            results = [_lower(result, cut.get(result.id, result)) for result in results]

    def _stopped(self, returned: NDArray[np.float32]) -> NDArray[np.float32]:
        """A velocity lasts until the next one: the cut chunk ends with a row of zeros, the gripper as it was."""
        row = returned[-1:].copy()
        for group in self.action_space.groups:
            row[:, group.arm] = 0.0
        return np.concatenate([returned, row])

    def _verdict(
        self,
        decision: Decision,
        actions: NDArray[np.float32],
        results: Sequence[RuleResult],
        known: Known | None,
        raw: NDArray[np.float32] | None,
        *,
        blind: tuple[RuleResult, ...] = (),
        truncated_at: int | None = None,
    ) -> Verdict:
        """`blind` are the results of rules that cannot look without a context: they count in nothing."""
        lowest, limiting, evaluated = 1.0, None, 0
        for result in results:
            score = result.score
            if score is not None:
                evaluated += 1
                if score < lowest:
                    lowest, limiting = score, result.id
            elif result.reason is None:  # it looked, and only informs
                evaluated += 1
        actions.flags.writeable = False
        frozen, steps, tracking = (0, 0, 0) if known is None else self._counts(known, results)
        is_refused = decision is Decision.REJECT
        return Verdict(
            decision=decision,
            actions=actions,
            is_modified=decision is not Decision.PASS,
            overall_score=lowest,
            limiting_rule=limiting,
            coverage=Coverage(evaluated=evaluated, applicable=len(self._unreached)),
            rules=(*results, *blind),
            fallback=hold(self.action_space, known, self.limits.gripper_range) if is_refused else None,
            profile=self.profile_id,
            guard_version=GUARD_VERSION,
            truncated_at=truncated_at,
            refused_for=_refused_for(results) if is_refused else None,
            raw=raw,
            frozen_count=frozen,
            frozen_steps=steps,
            tracking_count=tracking,
            expires_in_ms=None if is_refused else self._expires_in_ms(len(actions), known),
        )

    def _expires_in_ms(self, steps: int, known: Known | None) -> float:
        """How long the returned steps last, less the age of the observation where that is known."""
        age = None if known is None else age_ms(known.context)
        return max(1000.0 * steps / self.action_space.control_hz - (age or 0.0), 0.0)

    def _counts(self, known: Known, results: Sequence[RuleResult]) -> tuple[int, int, int]:
        """How often in a row the observation was the same, and the robot was not where it was sent."""
        previous, by_id = known.previous, {result.id: result for result in results}
        if previous is None:
            return 0, 0, 0
        tracking, frozen, steps = by_id.get(D8), 0, 0
        if known.context.image_hash is not None and is_frozen(known, previous) and E4 in by_id:
            rule = next(rule for rule in self._rules.stateful if rule.id == E4)
            frozen, steps = previous.frozen_count + 1, previous.frozen_steps + _moved(rule, known)
        limit = TRACKING_RAD if self.action_space.is_joints else TRACKING_M
        is_far = tracking is not None and tracking.value is not None and tracking.value > limit
        return frozen, steps, previous.tracking_count + 1 if is_far else 0

    def _refusal(self, results: Results, known: Known | None, raw: NDArray[np.float32] | None) -> Verdict:
        """Empty, with a hold; every rule is listed, also those that were not reached."""
        return self._verdict(Decision.REJECT, self._empty, self._ordered(results, known), known, raw)

    def _ordered(self, results: Results, known: Known | None) -> Results:
        """In reporting order, with the rules that were not reached."""
        found = {result.id: result for result in results}
        unreached = self._unreached_without_context if known is None else self._unreached
        return [found.get(result.id, result) for result in unreached]

    def _fault(self, fault: Fault) -> Verdict:
        """The request itself is at fault; the chunk was not looked at."""
        result = RuleResult(
            id=_FAULT_RULE[fault.cause],
            status=RuleStatus.REJECTED,
            score=0.0,
            value=fault.value,
            limit=fault.limit,
            message=fault.message,
        )
        rules = [result if unreached.id == result.id else unreached for unreached in self._unreached]
        verdict = self._verdict(Decision.REJECT, self._empty, rules, None, None)
        return replace(verdict, refused_for=fault.cause, refused_field=fault.field)

    def _blind_results(self) -> tuple[RuleResult, ...]:
        """What the rules that need a context say without one: always the same."""
        nothing = evidence_of(np.zeros((1, self.action_space.width), dtype=np.float32))
        return tuple(rule.evaluate(nothing) for rule in self._rules.stateful)

    def _all_unreached(self, *, is_known: bool) -> tuple[RuleResult, ...]:
        """Every applicable rule in reporting order, as it reads when an earlier one has refused."""
        earlier = NotEvaluated.REFUSED_EARLIER
        head = [self._shape.id, *[rule.id for rule in self._rules.integrity], self._units.id]
        before = [not_evaluated(rule_id, earlier) for rule_id in head]
        motion, stateful = ([_waiting(rule) for rule in rules] for rules in (self._rules.motion, self._rules.stateful))
        after = [not_evaluated(self._share.id, earlier), not_evaluated(self._post.id, earlier)]
        return (*before, *motion, *after, *(stateful if is_known else self._without_context))


def _waiting(rule: Rule) -> RuleResult:
    """How a rule reads when an earlier one has refused."""
    return rule.result if isinstance(rule, Standing) else not_evaluated(rule.id, NotEvaluated.REFUSED_EARLIER)


def _refused_for(results: Sequence[RuleResult]) -> RefusedFor:
    """A motion's refusal, unless all that refuses is a required rule that could not look."""
    refusing = [result for result in results if result.status is RuleStatus.REJECTED]
    is_required = bool(refusing) and all(result.reason is not None for result in refusing)
    return RefusedFor.REQUIRED_RULE if is_required else RefusedFor.MOTION


def _lower(before: RuleResult, after: RuleResult) -> RuleResult:
    """The one with the lower score."""
    scores = [1.0 if result.score is None else result.score for result in (before, after)]
    return before if scores[0] <= scores[1] else after


def _moved(rule: object, known: Known) -> int:
    """Steps of motion since the previous request, as E4 counts them; a rule that is switched off counts none."""
    return rule.moved_steps(known, known.previous) if isinstance(rule, ObservationFrozen) and known.previous is not None else 0
