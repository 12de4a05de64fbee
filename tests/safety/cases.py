"""Random chunks, contexts and layers from one seed: mostly legal motion, now and then too fast, too far, or from outside.

One integer per case keeps three thousand cases cheap; the same seed is the same case in every numpy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from safety.action_space import ActionKind, ActionSpace
from safety.context import Context, RobotState
from safety.guard import Guard
from safety.layering import GuardPolicy, Layer, base_policy, layered
from safety.profile import Preset, load_profile
from safety.workspace import Box
from tests.safety.factories import READY, action_space, joint_space, pose_space

PANDA = load_profile("franka_panda")
CELL = Layer(name="org:cell@1", workspace=Box(low_m=(-0.2, -0.6, 0.05), high_m=(0.75, 0.6, 0.9)))
SPACES: dict[ActionKind, ActionSpace] = {
    ActionKind.EE_DELTA_ROTVEC: action_space(),
    ActionKind.EE_DELTA_EULER: action_space(ActionKind.EE_DELTA_EULER),
    ActionKind.EE_ABS: pose_space(),
    ActionKind.JOINT_ABS: joint_space(),
    ActionKind.JOINT_DELTA: joint_space(ActionKind.JOINT_DELTA),
    ActionKind.JOINT_VEL: joint_space(ActionKind.JOINT_VEL),
}
POLICY = layered(base_policy(PANDA, Preset.REDUCED), CELL)
BARE = replace(PANDA, geometry=None)  # self-collision is the dearest rule: one kind of joint action looks at it, two do not
ROBOTS = {kind: PANDA if kind is ActionKind.JOINT_ABS else BARE for kind in SPACES}
GUARDS = {kind: Guard(ROBOTS[kind], Preset.REDUCED, space, policy=POLICY) for kind, space in SPACES.items()}
KINDS = list(SPACES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A chunk for a guard, and what is known about the robot."""

    kind: ActionKind
    raw: NDArray[np.float32]
    context: Context

    @property
    def guard(self) -> Guard:
        return GUARDS[self.kind]


def random_of(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def case_of(seed: int, kinds: Sequence[ActionKind] = KINDS) -> Case:
    random = random_of(seed)
    kind = kinds[seed % len(kinds)]
    steps = int(random.integers(1, 13))
    pace = random.choice([0.1, 0.5, 0.9, 1.0, 1.2, 3.0]) * np.ones(steps)
    pace[random.integers(0, steps)] *= random.choice([1.0, 1.0, 2.0, 6.0])
    if kind.value.startswith("joint"):
        q = np.array(READY) + random.normal(size=7) * random.choice([0.1, 0.5])
        low, high = PANDA.joints.position_min_rad.values, PANDA.joints.position_max_rad.values
        q = np.clip(q, np.array(low) - 0.008, np.array(high) + 0.008)
        limit = np.array(POLICY.limits.joint_speed_rad_per_s)
        speeds = random.uniform(-1, 1, 7) * limit * pace[:, np.newaxis]
        state = RobotState(q=q, gripper=0.5)
        arm = {
            ActionKind.JOINT_ABS: q + np.cumsum(speeds, axis=0) / 10.0,
            ActionKind.JOINT_DELTA: speeds / 10.0,
            ActionKind.JOINT_VEL: speeds,
        }[kind]
    else:
        position = np.array([0.4, 0.0, 0.4]) + random.normal(size=3) * random.choice([0.05, 0.3])
        moves = _directions(random, 1) * 0.25 / 8.0 * pace[:, np.newaxis]
        turns = _directions(random, steps) * 1.25 / 8.0 * random.uniform(0, 1, (steps, 1)) * pace[:, np.newaxis]
        state = RobotState(ee_position=position, gripper=0.5)
        if kind is ActionKind.EE_ABS:
            still = np.tile([0.0, 0.0, 0.0, 1.0], (steps, 1))
            arm = np.concatenate([position + np.cumsum(moves, axis=0), still], axis=1)
        else:
            arm = np.concatenate([moves, turns], axis=1)
    gripper = random.choice([0.0, 0.5, 1.0, 1.01], (steps, 1))
    known = Context(state=state, obs_age_ms=float(random.choice([0.0, 50.0]))) if random.random() < 0.7 else Context()
    return Case(kind=kind, raw=np.concatenate([arm, gripper], axis=1).astype(np.float32), context=known)


def _directions(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    vectors = random.normal(size=(count, 3))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def layer_of(seed: int, above: GuardPolicy, name: str = "org:random@1") -> Layer:
    """A layer that tightens some of what is above it."""
    random = random_of(seed)
    limits = above.limits
    share = random.uniform(0.3, 1.0, 4)
    low, high = np.array(limits.joint_min_rad), np.array(limits.joint_max_rad)
    room = (high - low) * random.uniform(0, 0.2, 7)
    box = above.workspace.box
    return Layer(
        name=name,
        linear_speed_m_per_s=None if limits.linear_speed_m_per_s is None else limits.linear_speed_m_per_s * share[0],
        angular_speed_rad_per_s=None if limits.angular_speed_rad_per_s is None else limits.angular_speed_rad_per_s * share[1],
        joint_speed_rad_per_s=tuple((np.array(limits.joint_speed_rad_per_s) * share[2]).tolist()),
        joint_min_rad=tuple((low + room).tolist()),
        joint_max_rad=tuple((high - room).tolist()),
        workspace=None if box is None else _smaller(box, random),
    )


def _smaller(box: Box, random: np.random.Generator) -> Box:
    size = (np.array(box.high_m) - np.array(box.low_m)) * random.uniform(0, 0.3, 3)
    low, high = np.array(box.low_m) + size, np.array(box.high_m) - size
    return Box(low_m=(low[0], low[1], low[2]), high_m=(high[0], high[1], high[2]))
