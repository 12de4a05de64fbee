"""The action guard: any object in, a verdict out. `Guard(profile, preset, action_space)` once per (policy, robot), then `check`.

It compares numbers with configured limits: refuses what is no plausible motion, scales what is too fast, returns the rest bit for
bit, and says what it could not look at. Knows no HTTP, policy or session; the control plane calls it for every answer.
"""

import numpy as np
from numpy.typing import NDArray

from safety.action_space import ActionSpace
from safety.context import NOTHING_KNOWN, Context
from safety.layering import GuardPolicy, base_policy
from safety.profile import Preset, RobotProfile
from safety.rules.catalogue import WATCHED_BY_A4, RuleSet, rule_set
from safety.rules.clamped_share import ClampedShare
from safety.rules.integrity import MAGNITUDE_MAX, ShapeDtype, UnitSuspect
from safety.rules.post_check import PostCheck
from safety.rules.rule import ClampingRule, Unpublished, evidence_of, not_evaluated
from safety.verdict import Coverage, Decision, Fallback, NotEvaluated, RuleResult, RuleStatus, Verdict

GUARD_VERSION = "0.1.0"
HASH_CHARS = 16


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
        """`policy` is what `safety.layering.layered` made of this profile and preset; `rules` replaces the catalogue's rules."""
        self.policy = policy or base_policy(profile, preset)
        self.limits = self.policy.limits
        self.action_space = action_space
        self.profile_id = f"{profile.robot_type}@{profile.version}/sha256:{profile.content_hash[:HASH_CHARS]}+preset:{preset}"
        self._rules = rules or rule_set(action_space, self.limits)
        self._clamps = {rule.id: rule for rule in self._rules.motion if isinstance(rule, ClampingRule)}
        self._shape = ShapeDtype(width=action_space.width)
        self._units = UnitSuspect(watched=WATCHED_BY_A4)
        self._share = ClampedShare()
        self._post = PostCheck()
        self._unreached = self._all_unreached()
        self._empty = np.empty((0, action_space.width), dtype=np.float32)
        self._empty.flags.writeable = False

    def check(self, raw: object, context: Context = NOTHING_KNOWN) -> Verdict:
        """The verdict on a chunk, meant to be a (T, D) array. Never raises and never changes `raw`."""
        with np.errstate(all="ignore"):  # overflow in the cast is what A2 looks for; no caller's setting may make it raise
            return self._check(raw, _last_gripper(context))

    def check_context(self, context: Context) -> Verdict | None:
        """The refusal that this context alone would bring (D0 → `invalid_state`, E5 → `sequence`), before any inference."""
        del context
        return None

    def _check(self, raw: object, last_gripper: float | None) -> Verdict:
        wire = self._shape.read(raw)
        if isinstance(wire, RuleResult):
            return self._refusal([wire], last_gripper)
        evidence = evidence_of(wire)
        results = [self._shape.ok]
        for rule in self._rules.integrity:
            results.append(rule.evaluate(evidence))
            if _is_refused(results[-1]):
                return self._refusal(results, last_gripper)
        motion = [rule.evaluate(evidence) for rule in self._rules.motion]
        results += (self._units.judge(motion), *motion)
        statuses = [result.status for result in motion]
        if RuleStatus.REJECTED in statuses:
            return self._refusal(results, last_gripper)
        if RuleStatus.CLAMPED not in statuses:
            return self._verdict(Decision.PASS, wire, [*results, self._share.ok, self._post.ok])
        returned, shortened = self._clamped(evidence.actions.copy(), motion)
        results.append(self._share.judge(shortened=shortened, steps=len(returned)))
        if _is_refused(results[-1]):
            return self._refusal(results, last_gripper)
        results.append(self._post.judge((*self._rules.integrity, *self._rules.motion), returned))
        if _is_refused(results[-1]):
            return self._refusal(results, last_gripper)
        return self._verdict(Decision.CLAMP, returned, results)

    def _clamped(self, actions: NDArray[np.float64], motion: list[RuleResult]) -> tuple[NDArray[np.float32], int]:
        """What is left of `actions` (consumed) after every broken limit was enforced, and how many steps became shorter."""
        shortened = np.zeros(len(actions), dtype=np.bool_)
        for result in motion:
            clamping = self._clamps.get(result.id)
            if result.status is RuleStatus.CLAMPED and clamping is not None:
                steps = clamping.clamp(actions)
                if steps is not None:
                    shortened |= steps
        return actions.astype(np.float32), int(np.count_nonzero(shortened))

    def _verdict(
        self, decision: Decision, actions: NDArray[np.float32], results: list[RuleResult], fallback: Fallback | None = None
    ) -> Verdict:
        lowest, limiting, evaluated = 1.0, None, 0
        for result in results:
            if result.score is not None:
                evaluated += 1
                if result.score < lowest:
                    lowest, limiting = result.score, result.id
        actions.flags.writeable = False
        return Verdict(
            decision=decision,
            actions=actions,
            is_modified=decision is not Decision.PASS,
            overall_score=lowest,
            limiting_rule=limiting,
            coverage=Coverage(evaluated=evaluated, applicable=len(self._unreached)),
            rules=(*results, *self._unreached[len(results) :]),
            fallback=fallback,
            profile=self.profile_id,
            guard_version=GUARD_VERSION,
        )

    def _refusal(self, results: list[RuleResult], last_gripper: float | None) -> Verdict:
        return self._verdict(Decision.REJECT, self._empty, results, self._hold(last_gripper))

    def _hold(self, last_gripper: float | None) -> Fallback:
        """No motion. The gripper keeps its last command if that is known and possible: 0 could open it and drop the object."""
        still = (0.0,) * 6
        if not self.action_space.has_gripper:
            return Fallback(type="hold", values=still)
        low, high = self.limits.gripper_range
        held = last_gripper if last_gripper is not None and low <= last_gripper <= high else None
        return Fallback(type="hold", values=(*still, held))

    def _all_unreached(self) -> tuple[RuleResult, ...]:
        """Every applicable rule in reporting order, as it reads when an earlier one has refused."""
        standing = {rule.id: rule.result for rule in self._rules.motion if isinstance(rule, Unpublished)}
        integrity = [rule.id for rule in self._rules.integrity]
        motion = [rule.id for rule in self._rules.motion]
        reached = [self._shape.id, *integrity, self._units.id, *motion, self._share.id, self._post.id]
        earlier = (standing.get(rule_id, not_evaluated(rule_id, NotEvaluated.REFUSED_EARLIER)) for rule_id in reached)
        return (*earlier, *self._rules.later)


def _is_refused(result: RuleResult) -> bool:
    return result.status is RuleStatus.REJECTED


def _last_gripper(context: Context) -> float | None:
    """The reported gripper, if it is one plain number."""
    reported = None if context.state is None else context.state.gripper
    if isinstance(reported, bool) or not isinstance(reported, int | float) or not abs(reported) <= MAGNITUDE_MAX:
        return None
    return float(reported)
