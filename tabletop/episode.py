"""One closed-loop episode: a simulated robot that moves by the chunks somebody answers, on the clock of the simulation.

The SDK's `ChunkBroker` decides which step is due, as on a real robot; here its clock is the simulation's, so that an added delay
costs exactly that much motion on any machine. When no answer comes the robot holds, and the episode says so. It knows no network.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tabletop.asking import Asks, Denied
from tabletop.contract import CONTROL_HZ
from tabletop.env import Observation, TabletopEnv
from tabletop.verbs import Task
from tabletop.world import FRONT
from vlaapi_client import Answer, ChunkBroker, Due, Plan

TICK_S = 1 / CONTROL_HZ
GIVE_UP_STEPS = 30  # three seconds without motion
_OVERLAP_LEFT, _ALL_LEFT = 0.5, 0.0
_MAX_AGE_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the robot asks. `delay_ms` is added to each answer, in simulated time; without overlap it asks at a chunk's end."""

    delay_ms: int = 0
    has_overlap: bool = True
    has_state: bool = True
    deadline_ms: int | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One control step, for who watches. `action` is None while the robot holds."""

    step: int
    observation: Observation
    action: NDArray[np.float32] | None
    answer: Answer | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an episode ended. `lost` says why it was given up, if it was."""

    seed: int
    task: Task
    instruction: str
    is_success: bool
    is_wrong: bool
    steps: int
    held_steps: int
    lost: str | None

    @property
    def seconds(self) -> float:
        """Simulated time."""
        return self.steps * TICK_S


class Line:
    """A line on which each answer takes its time: simulated time, in which nothing else happens."""

    def __init__(self, delay_s: float) -> None:
        self.now_s = 0.0
        self._delay_s = delay_s
        self._due: list[tuple[float, Callable[[], None]]] = []
        self.denied: Denied | None = None

    def submit(self, work: Callable[[], None]) -> None:
        """What the broker wants done: at once where there is no delay."""
        if self._delay_s <= 0:
            self._do(work)
        else:
            self._due.append((self.now_s + self._delay_s, work))

    def advance(self, to_s: float) -> None:
        """Lets the time pass, and what is due come about at its own time."""
        ready, self._due = [one for one in self._due if one[0] <= to_s], [one for one in self._due if one[0] > to_s]
        for at_s, work in ready:
            self.now_s = at_s
            self._do(work)
        self.now_s = to_s

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Denied as denied:
            self.denied = denied


def run(
    env: TabletopEnv, asks: Asks, seed: int, manner: Manner, *, watch: Callable[[Moment], None] | None = None, **options: object
) -> Outcome:
    """One episode from a fresh scene; `options` go to `env.reset`. Raises Denied."""
    observation, info = env.reset(seed=seed, options=dict(options))
    line = Line(manner.delay_ms / 1e3)
    plan = Plan(
        ask_when_left=_OVERLAP_LEFT if manner.has_overlap else _ALL_LEFT,
        max_age_s=_MAX_AGE_S,
        deadline_ms=manner.deadline_ms,
        fields={} if manner.model is None else {"model": manner.model},
    )

    def clock() -> float:
        return line.now_s

    held = held_in_row = 0
    lost: str | None = None
    with ChunkBroker(asks, info["instruction"], plan, clock=clock, wall=clock, submit=line.submit) as broker:
        for step in range(env.settings.max_steps):
            due = broker.step(observation[FRONT], observation["state"] if manner.has_state else None)
            if line.denied is not None:
                raise line.denied
            if watch is not None:
                error = None if due.error is None else str(due.error)
                watch(Moment(step=step, observation=observation, action=due.values, answer=due.answer, error=error))
            if due.due is Due.MOVE and due.values is not None:
                observation, _, is_over, _, info = env.step(due.values)
                held_in_row = 0
            else:
                observation, info = env.hold()
                held, held_in_row, is_over = held + 1, held_in_row + 1, info["is_success"]
            line.advance((step + 1) * TICK_S)
            if is_over:
                break
            if held_in_row >= GIVE_UP_STEPS and due.error is not None:
                lost = f"held for {held_in_row * TICK_S:.0f} s and gave up: {due.error}"
                break
    return Outcome(
        seed=seed,
        task=info["task"],
        instruction=info["instruction"],
        is_success=info["is_success"],
        is_wrong=info["is_wrong"],
        steps=info["steps"],
        held_steps=held,
        lost=lost,
    )
