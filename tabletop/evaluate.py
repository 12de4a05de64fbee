"""Does the policy do what it is told? Closed loop on scenes that training never saw, and the direction of its first motion.

In this process, without service or guard (`series` asks like a customer). A condition is one combination of scenes, tasks, state
sent or not, picture path, wording and how many steps of a chunk are executed. It reports counts, never a bare percentage.
It knows a policy only as something to ask.
"""

import itertools
import multiprocessing
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tabletop.demos import as_seen
from tabletop.drive import Policy
from tabletop.env import MAX_STEPS, Settings, TabletopEnv, say
from tabletop.scene import View
from tabletop.things import Layout
from tabletop.verbs import Task, Verb
from tabletop.wording import Wording
from tabletop.world import FRONT

FIRST_SEED = 9_000_000  # demonstrations use seeds from 1,000,000 on


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One row of the table in the model's card."""

    name: str
    layout: Layout = Layout.CUBES
    verbs: tuple[Verb, ...] = (Verb.PICK_UP,)
    has_state: bool = True
    picture_px: int = 224
    jpeg_quality: int | None = None
    wording: Wording = Wording.PLAIN
    execute: int = 4
    camera_bump: float = 1.0  # 1 is ± 5 mm and up to 0.34°, as in training

    def opened(self) -> TabletopEnv:
        """The environment of this condition; close it."""
        return TabletopEnv(
            Settings(
                layout=self.layout,
                verbs=self.verbs,
                wording=self.wording,
                picture_px=self.picture_px,
                cameras=(FRONT,),
                camera_bump=self.camera_bump,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What happened in `episodes` runs: what was asked was done to the named thing, to another one, or to neither in time."""

    episodes: int
    lifted_named: int
    lifted_wrong: int
    mean_steps: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A share of a condition's episodes, run in one process."""

    make_policy: Callable[[], Policy]
    condition: Condition
    seeds: range

    def run(self) -> list[tuple[bool, bool, int]]:
        """(done as named, done to another, steps) per episode."""
        policy = self.make_policy()
        with closing(self.condition.opened()) as env:
            return [_episode(env, policy, self.condition, seed) for seed in self.seeds]


def closed_loop(make_policy: Callable[[], Policy], condition: Condition, episodes: int, processes: int = 2) -> Tally:
    """Runs `episodes` fresh scenes under `condition`."""
    cuts = np.linspace(FIRST_SEED, FIRST_SEED + episodes, processes + 1).astype(int).tolist()
    trials = [Trial(make_policy=make_policy, condition=condition, seeds=range(*cut)) for cut in itertools.pairwise(cuts)]
    if processes == 1:
        return tally_of([run for trial in trials for run in trial.run()])
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return tally_of([run for part in pool.map(Trial.run, trials) for run in part])


def tally_of(runs: list[tuple[bool, bool, int]]) -> Tally:
    """The runs, counted."""
    steps = [count for is_named, _, count in runs if is_named]
    return Tally(
        episodes=len(runs),
        lifted_named=len(steps),
        lifted_wrong=sum(is_wrong for _, is_wrong, _ in runs),
        mean_steps=round(float(np.mean(steps)), 1) if steps else None,
    )


def first_motion(policy: Policy, condition: Condition, scenes: int) -> tuple[int, int]:
    """(right, asked): in each scene every thing is named once; right means the first chunk comes nearer to it than to any other.

    Nearer is judged by the direction of the chunk's sideways motion, from the same picture for all instructions.
    """
    right = asked = 0
    with closing(condition.opened()) as env:
        for seed in range(FIRST_SEED, FIRST_SEED + scenes):
            observation, _ = env.reset(seed=seed)
            picture = as_seen(observation[FRONT], jpeg_quality=condition.jpeg_quality)
            random = np.random.default_rng(seed)
            for name in sorted(env.table.view.things):
                task = Task(verb=Verb.PICK_UP, thing=name)
                state = env.table.state if condition.has_state else None
                chunk = policy.ask(picture, say(task, condition.wording, random), state)
                right += heads_for(env.table.view, chunk) == name
                asked += 1
    return right, asked


def heads_for(view: View, chunk: NDArray[np.float32]) -> str:
    """The thing that the chunk's sideways motion points at best."""
    motion = chunk[:, :2].sum(0)
    gaps = {name: seen.position[:2] - view.tool.position[:2] for name, seen in view.things.items()}
    return max(gaps, key=lambda name: float(motion @ gaps[name] / (np.linalg.norm(gaps[name]) + 1e-9)))


def _episode(env: TabletopEnv, policy: Policy, condition: Condition, seed: int) -> tuple[bool, bool, int]:
    observation, info = env.reset(seed=seed)
    planned: list[NDArray[np.float32]] = []
    for step in range(MAX_STEPS):
        if not planned:
            picture = as_seen(observation[FRONT], jpeg_quality=condition.jpeg_quality)
            state = observation["state"] if condition.has_state else None
            planned = list(policy.ask(picture, info["instruction"], state)[: condition.execute])
        observation, _, is_done, _, info = env.step(planned.pop(0))
        if is_done:
            return True, info["is_wrong"], step + 1
    return False, info["is_wrong"], MAX_STEPS
