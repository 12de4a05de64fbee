"""Which rules look at an action space, in which order, what enforces them, and which of the catalogue cannot look here and why.

To add a rule: write it beside these and put it where it belongs below. G1 reads the instruction, not the action, and is not here.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from safety.action_space import EE_DELTAS, JOINTS, ROBOT_BASE, ActionKind, ActionSpace, RotationForm, UnsupportedActionSpaceError
from safety.layering import GuardPolicy
from safety.robot import RobotProfile
from safety.rules.arm import Arm, arms_of
from safety.rules.bodies import SelfCollision, SurfaceClearance
from safety.rules.cartesian import angular_speed, linear_speed
from safety.rules.chain import JointLimitPredicted, Singularity
from safety.rules.gripper import GripperRange, GripperStep
from safety.rules.integrity import Finite, Magnitude
from safety.rules.joint_clamp import JointClamp
from safety.rules.joints import JointPosition, JointSpeed, StartGap, StoppingRoom
from safety.rules.manner import DEADBAND, GripperChatter, JointAcceleration, JointJerk, Oscillation, Saturation
from safety.rules.model import BEYOND_TRAINING, TokenEntropy, action_range_rule
from safety.rules.names import B1, B2, B3, B6, B7, C1, C2, C3, C6, D1, D2, D3, D4, D5, D6, D7, F2
from safety.rules.place import InWorkspace
from safety.rules.poses import PoseClamp, PoseGap, PoseSpeed, PoseTurn, RotationValid
from safety.rules.rule import Clamp, PerArm, Rule, standing
from safety.rules.session import (
    ChunkConsistency,
    ObservationFrozen,
    RateMismatch,
    Seam,
    Sequence,
    TrackingError,
    arm_steps,
    step_scale,
)
from safety.rules.state import StateValid
from safety.rules.timing import Staleness
from safety.verdict import NotEvaluated

WATCHED_BY_A4 = frozenset({B1, B2, B3, B7, C1, D1})
ABSOLUTE = frozenset({ActionKind.JOINT_ABS, ActionKind.EE_ABS})


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """The rules of one guard. `integrity` stops at the first refusal; all others are evaluated, then `clamps` run in order.

    `motion` may look at the numbers alone; `stateful` needs a context and is passed over without one.
    """

    integrity: tuple[Rule, ...]
    motion: tuple[Rule, ...]
    stateful: tuple[Rule, ...]
    clamps: tuple[Clamp, ...]


def rule_set(space: ActionSpace, profile: RobotProfile, policy: GuardPolicy) -> RuleSet:
    """The rules for this action space on this robot. Raises UnsupportedActionSpaceError when the two do not fit."""
    arms = arms_of(profile, policy, space)
    _check_fit(space, profile)
    build = _Builder(space, profile, policy, arms)
    grippers = build.grippers()
    motion = [*build.numbers(), *grippers[0], *build.manner()]
    stateful: list[Rule] = [StateValid()]
    (motion if space.kind in ABSOLUTE else stateful).extend(build.where())  # absolute commands say themselves where they lead
    stateful += build.session()
    for rules in (motion, stateful):
        rules[:] = [
            standing(rule.id, NotEvaluated.DISABLED_BY_CUSTOMER) if rule.id in policy.disabled_rules else rule for rule in rules
        ]
    return RuleSet(
        integrity=(Finite(), Magnitude()),
        motion=tuple(motion),
        stateful=tuple(stateful),
        clamps=(*build.clamps(), *grippers[1]),
    )


def _check_fit(space: ActionSpace, profile: RobotProfile) -> None:
    if len(space.groups) != profile.arms:
        raise UnsupportedActionSpaceError("names", f"{len(space.groups)} arms for a robot with {profile.arms}")
    if space.is_joints and any(group.stop - group.start != profile.joints_per_arm for group in space.groups):
        raise UnsupportedActionSpaceError("names", f"{profile.robot_type} has {profile.joints_per_arm} joints per arm")


class _Builder:
    """Puts the rules together for one guard; nothing of it lives on."""

    def __init__(self, space: ActionSpace, profile: RobotProfile, policy: GuardPolicy, arms: tuple[Arm, ...]) -> None:
        self.space, self.profile, self.policy, self.arms = space, profile, policy, arms
        self.limits = policy.limits

    def numbers(self) -> list[Rule]:
        """The limits on the numbers themselves."""
        if self.space.kind in EE_DELTAS:
            return [self._per_arm(self._linear(arm) for arm in self.arms), self._per_arm(self._angular(arm) for arm in self.arms)]
        if self.space.kind is ActionKind.EE_ABS:
            return self._poses()
        arms = list(enumerate(self.arms))
        speed = C1 if self.space.kind is ActionKind.JOINT_ABS else B3
        rules: list[Rule] = [self._per_arm(JointSpeed(id=speed, arm=arm) for arm in self.arms)]
        if self.space.kind is ActionKind.JOINT_ABS:
            rules.append(self._per_arm(JointPosition(arm=arm, index=index) for index, arm in arms))
        return rules

    def _linear(self, arm: Arm) -> Rule:
        limit = self.limits.linear_speed_m_per_s
        return standing(B1, NotEvaluated.LIMIT_UNPUBLISHED) if limit is None else linear_speed(self.space, arm.group, limit)

    def _angular(self, arm: Arm) -> Rule:
        limit = self.limits.angular_speed_rad_per_s
        return standing(B2, NotEvaluated.LIMIT_UNPUBLISHED) if limit is None else angular_speed(self.space, arm.group, limit)

    def _poses(self) -> list[Rule]:
        form, linear, angular = self._form, self.limits.linear_speed_m_per_s, self.limits.angular_speed_rad_per_s
        none = NotEvaluated.LIMIT_UNPUBLISHED
        rules: list[Rule] = [
            standing(B1, none) if linear is None else self._per_arm(PoseSpeed(arm=arm, limit=linear) for arm in self.arms),
            standing(B2, none)
            if angular is None
            else self._per_arm(PoseTurn(arm=arm, form=form, limit=angular) for arm in self.arms),
        ]
        if form not in (RotationForm.EULER, RotationForm.ROTATION_VECTOR):
            rules.append(self._per_arm(RotationValid(arm=arm, form=form) for arm in self.arms))
        else:
            rules.append(standing(B6, NotEvaluated.NOT_APPLICABLE))
        return rules

    @property
    def _form(self) -> RotationForm:
        return self.space.rotation_form or RotationForm.ROTATION_VECTOR

    def grippers(self) -> tuple[list[Rule], list[Clamp]]:
        """B4 and B7, and what enforces them: the range before the steps."""
        columns = [group.gripper for group in self.space.groups if group.gripper is not None]
        if not columns:
            return [], []
        low, high = self.limits.gripper_range
        step_max = self.limits.gripper_step_max
        ranges = [
            GripperRange(column=column, low=_inward(low, high), high=_inward(high, low), unit=self.space.units[column])
            for column in columns
        ]
        if step_max is None:
            return [self._per_arm(ranges), standing(B7, NotEvaluated.LIMIT_UNPUBLISHED)], [*ranges]
        end = max(abs(low), abs(high))
        steps = [
            GripperStep(column=column, step_max=step_max, range_end=end, unit=self.space.units[column]) for column in columns
        ]
        return [self._per_arm(ranges), self._per_arm(steps)], [*ranges, *steps]

    def manner(self) -> list[Rule]:
        """How a chunk moves, and whether its numbers are like the training's."""
        space, limits = self.space, self.limits
        rules: list[Rule] = []
        if space.is_joints:
            acceleration, jerk = limits.joint_acceleration_rad_per_s2, limits.joint_jerk_rad_per_s3
            none = NotEvaluated.LIMIT_UNPUBLISHED
            rules += [
                standing(C2, none)
                if acceleration is None
                else self._per_arm(JointAcceleration(arm=arm, limits=np.array(acceleration)) for arm in self.arms),
                standing(C3, none)
                if jerk is None
                else self._per_arm(JointJerk(arm=arm, limits=np.array(jerk)) for arm in self.arms),
            ]
        rules.append(self._per_arm(self._oscillation(arm) for arm in self.arms))
        low, high = limits.gripper_range
        flaps = [
            GripperChatter(column=group.gripper, low=low, high=high, control_hz=space.control_hz)
            for group in space.groups
            if group.gripper is not None
        ]
        return [*rules, *([self._per_arm(flaps)] if flaps else []), *self._training()]

    def _oscillation(self, arm: Arm) -> Rule:
        floors = -((arm_steps(arm) * DEADBAND) ** 2)
        return Oscillation(columns=arm.group.arm, is_absolute=self.space.kind in ABSOLUTE, floors=floors)

    def _training(self) -> list[Rule]:
        ranges, thresholds = self.space.training_range, self.policy.thresholds
        calibrated = None if thresholds is None else thresholds.action_range
        none = NotEvaluated.LIMIT_UNPUBLISHED
        rules: list[Rule] = [standing(C6, none), standing(F2, none)]
        if ranges is not None:
            low, high = (tuple(pair[end] for pair in ranges) for end in (0, 1))
            grippers = {group.gripper for group in self.space.groups}
            wide = [column for column in range(self.space.width) if low[column] < high[column] and column not in grippers]
            if wide:
                columns = np.array(wide, dtype=np.intp)
                rules[0] = Saturation(low=np.array(low)[columns], high=np.array(high)[columns], columns=columns)
            rules[1] = action_range_rule(low, high, BEYOND_TRAINING)
        if calibrated is not None and len(calibrated.low) == self.space.width:
            rules[1] = action_range_rule(calibrated.low, calibrated.high, calibrated.excess.value)
        return rules

    def where(self) -> list[Rule]:
        """Where the chunk would take the arm."""
        arms, kind = list(enumerate(self.arms)), self.space.kind
        rules: list[Rule] = []
        if kind in (ActionKind.JOINT_DELTA, ActionKind.JOINT_VEL):
            rules.append(self._per_arm(JointPosition(arm=arm, index=index) for index, arm in arms))
        if kind is ActionKind.JOINT_ABS:
            rules.append(self._per_arm(StartGap(arm=arm, index=index) for index, arm in arms))
        if kind is ActionKind.EE_ABS:
            limit = self.limits.linear_speed_m_per_s
            rules.append(
                standing(D1, NotEvaluated.LIMIT_UNPUBLISHED)
                if limit is None
                else self._per_arm(PoseGap(arm=arm, index=index, limit=limit) for index, arm in arms)
            )
        rules.append(self._workspace())
        if kind in EE_DELTAS:
            rules.append(self._predicted())
        if kind in JOINTS:
            rules.append(self._stopping())
        rules.append(self._singularity())
        return [*rules, *self._bodies()] if kind in JOINTS else rules

    def _workspace(self) -> Rule:
        space, first = self.space, self.arms[0]
        if first.workspace.is_empty and first.reach is None:
            return standing(D2, NotEvaluated.LIMIT_UNPUBLISHED)
        if space.is_joints and first.chain is None:
            return standing(D2, NotEvaluated.NO_GEOMETRY)
        if not space.is_joints and space.frame != ROBOT_BASE:
            return standing(D2, NotEvaluated.NOT_APPLICABLE)
        return self._per_arm(
            InWorkspace(arm=arm, index=index, min_prefix=self.policy.min_prefix) for index, arm in enumerate(self.arms)
        )

    def _predicted(self) -> Rule:
        if self.arms[0].chain is None:
            return standing(D3, NotEvaluated.NO_GEOMETRY)
        if self.space.frame != ROBOT_BASE or self.space.kind is ActionKind.EE_DELTA_EULER:
            return standing(D3, NotEvaluated.NOT_APPLICABLE)
        return self._per_arm(
            JointLimitPredicted(arm=arm, index=index, chain=arm.chain)
            for index, arm in enumerate(self.arms)
            if arm.chain is not None
        )

    def _stopping(self) -> Rule:
        if self.arms[0].braking is None:
            return standing(D4, NotEvaluated.LIMIT_UNPUBLISHED)
        return self._per_arm(
            StoppingRoom(arm=arm, index=index, braking=arm.braking)
            for index, arm in enumerate(self.arms)
            if arm.braking is not None
        )

    def _singularity(self) -> Rule:
        if self.arms[0].chain is None:
            return standing(D5, NotEvaluated.NO_GEOMETRY)
        return self._per_arm(
            Singularity(arm=arm, index=index, chain=arm.chain) for index, arm in enumerate(self.arms) if arm.chain is not None
        )

    def _bodies(self) -> list[Rule]:
        surfaces, prefix = self.policy.workspace.surfaces, self.policy.min_prefix
        if self.arms[0].body is None:
            return [standing(D6, NotEvaluated.NO_GEOMETRY), standing(D7, NotEvaluated.NO_GEOMETRY)]
        bodies = [(index, arm, arm.body) for index, arm in enumerate(self.arms) if arm.body is not None]
        collision = self._per_arm(
            SelfCollision(arm=arm, index=index, body=body, min_prefix=prefix) for index, arm, body in bodies
        )
        if not surfaces:
            return [collision, standing(D7, NotEvaluated.NO_GEOMETRY)]
        clear = (
            SurfaceClearance(arm=arm, index=index, body=body, surfaces=surfaces, min_prefix=prefix) for index, arm, body in bodies
        )
        return [collision, self._per_arm(clear)]

    def session(self) -> list[Rule]:
        """What the previous chunk, the clock and the model tell."""
        space, thresholds = self.space, self.policy.thresholds
        arms, scale = list(enumerate(self.arms)), step_scale(space, self.arms)
        columns = np.concatenate([np.arange(group.start, group.stop) for group in space.groups])
        return [
            self._per_arm(TrackingError(arm=arm, index=index) for index, arm in arms),
            self._per_arm(Seam(arm=arm, steps=arm_steps(arm)) for arm in self.arms),
            ChunkConsistency(scale=scale, threshold=None if thresholds is None else thresholds.chunk_consistency),
            Staleness(control_hz=space.control_hz, age_max_ms=self.policy.staleness_max_ms),
            ObservationFrozen(columns=columns, is_absolute=space.kind in ABSOLUTE),
            Sequence(),
            RateMismatch(control_hz=space.control_hz),
            TokenEntropy(threshold=None if thresholds is None else thresholds.token_entropy),
        ]

    def clamps(self) -> list[Clamp]:
        """What enforces the limits on the arms."""
        if self.space.kind in JOINTS:
            return [JointClamp(arm=arm, index=index) for index, arm in enumerate(self.arms)]
        linear = self.limits.linear_speed_m_per_s
        if self.space.kind is ActionKind.EE_ABS:
            found = (
                [] if linear is None else [PoseClamp(arm=arm, index=index, limit=linear) for index, arm in enumerate(self.arms)]
            )
            return [*found]
        angular = self.limits.angular_speed_rad_per_s
        moves = [] if linear is None else [linear_speed(self.space, arm.group, linear) for arm in self.arms]
        turns = [] if angular is None else [angular_speed(self.space, arm.group, angular) for arm in self.arms]
        return [*moves, *turns]

    def _per_arm(self, parts: Iterable[Rule]) -> Rule:
        each = tuple(parts)
        return each[0] if len(each) == 1 else PerArm(parts=each)


def _inward(end: float, other: float) -> float:
    """The nearest float32 that is not outside this end: a command clamped to the end must not be outside after the cast."""
    nearest = np.float32(end)
    is_outside = float(nearest) < end if end < other else float(nearest) > end
    return float(np.nextafter(nearest, np.float32(other)) if is_outside else nearest)
