"""Does the policy do what it is told? Closed loop on scenes that training never saw, and the direction of its first motion.

A condition is one combination of state sent or not, picture path, wording and how many steps of a chunk are executed. It reports
counts, never a bare percentage. It knows a policy only as something to ask.
"""

import itertools
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from tabletop.appearance import Appearance
from tabletop.demos import as_seen
from tabletop.drive import Policy
from tabletop.instructions import COLOURS, held_out_instruction, plain_instruction, training_instruction
from tabletop.render import Camera
from tabletop.scene import Tabletop, View

FIRST_SEED = 9_000_000  # demonstrations use seeds from 1,000,000 on
MAX_STEPS = 120


class Wording(StrEnum):
    """Which sentences are used."""

    PLAIN = "plain"  # "pick up red cube"
    TRAINING = "training"  # the training grammar
    HELD_OUT = "held_out"  # forms and words never trained on


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One row of the table in the model's card."""

    name: str
    has_state: bool = True
    picture_px: int = 224
    jpeg_quality: int | None = None
    wording: Wording = Wording.PLAIN
    execute: int = 4
    camera_bump: float = 1.0  # 1 is ± 5 mm and up to 0.34°, as in training


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What happened in `episodes` runs: the named cube was lifted, another one was, or neither in time."""

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
        """(named lifted, wrong lifted, steps) per episode."""
        table, policy = Tabletop(), self.make_policy()
        appearance = Appearance(table)
        with Camera(table, size_px=self.condition.picture_px) as camera:
            found = []
            for seed in self.seeds:
                table.reset(seed)
                appearance.vary(seed, camera_bump=self.condition.camera_bump)
                found.append(_episode(table, camera, policy, self.condition, seed))
            return found


def closed_loop(make_policy: Callable[[], Policy], condition: Condition, episodes: int, processes: int = 2) -> Tally:
    """Runs `episodes` fresh scenes under `condition`."""
    cuts = np.linspace(FIRST_SEED, FIRST_SEED + episodes, processes + 1).astype(int).tolist()
    trials = [Trial(make_policy=make_policy, condition=condition, seeds=range(*cut)) for cut in itertools.pairwise(cuts)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        runs = [run for part in pool.map(Trial.run, trials) for run in part]
    steps = [count for is_named, _, count in runs if is_named]
    return Tally(
        episodes=len(runs),
        lifted_named=len(steps),
        lifted_wrong=sum(is_wrong for _, is_wrong, _ in runs),
        mean_steps=round(float(np.mean(steps)), 1) if steps else None,
    )


def first_motion(policy: Policy, condition: Condition, scenes: int) -> tuple[int, int]:
    """(right, asked): in each scene every cube is named once; right means the first chunk comes nearer to it than to any other.

    Nearer is judged by the direction of the chunk's sideways motion, from the same picture for all three instructions.
    """
    table = Tabletop()
    appearance = Appearance(table)
    right = 0
    with Camera(table, size_px=condition.picture_px) as camera:
        for seed in range(FIRST_SEED, FIRST_SEED + scenes):
            table.reset(seed)
            appearance.vary(seed)
            picture = as_seen(camera.picture(), jpeg_quality=condition.jpeg_quality)
            random = np.random.default_rng(seed)
            for colour in COLOURS:
                state = table.state if condition.has_state else None
                chunk = policy.ask(picture, say(colour, condition.wording, random), state)
                right += heads_for(table.view, chunk) == colour
    return right, scenes * len(COLOURS)


def say(colour: str, wording: Wording, random: np.random.Generator) -> str:
    """An instruction in that wording."""
    match wording:
        case Wording.PLAIN:
            return plain_instruction(colour)
        case Wording.TRAINING:
            return training_instruction(colour, random)
        case Wording.HELD_OUT:
            return held_out_instruction(colour, random)


def heads_for(view: View, chunk: NDArray[np.float32]) -> str:
    """The cube that the chunk's sideways motion points at best."""
    motion = chunk[:, :2].sum(0)
    gaps = {colour: position[:2] - view.tool.position[:2] for colour, position in view.cube_positions.items()}
    return max(gaps, key=lambda colour: float(motion @ gaps[colour] / (np.linalg.norm(gaps[colour]) + 1e-9)))


def _episode(table: Tabletop, camera: Camera, policy: Policy, condition: Condition, seed: int) -> tuple[bool, bool, int]:
    random = np.random.default_rng((seed, 13))
    named = COLOURS[int(random.integers(len(COLOURS)))]
    instruction = say(named, condition.wording, random)
    planned: list[NDArray[np.float32]] = []
    is_wrong = False
    for step in range(MAX_STEPS):
        if not planned:
            picture = as_seen(camera.picture(), jpeg_quality=condition.jpeg_quality)
            state = table.state if condition.has_state else None
            planned = list(policy.ask(picture, instruction, state)[: condition.execute])
        table.apply(planned.pop(0))
        view = table.view
        is_wrong = is_wrong or any(view.is_lifted(colour) for colour in COLOURS if colour != named)
        if view.is_lifted(named):
            return True, is_wrong, step + 1
    return False, is_wrong, MAX_STEPS
