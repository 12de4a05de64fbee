"""One closed-loop episode: a simulated robot that moves by the chunks somebody answers, on the clock of the simulation.

The SDK's `ChunkBroker` decides which step is due, as on a real robot; here its clock is the simulation's, so that an added delay
costs exactly that much motion on any machine. When no answer comes the robot holds, and the episode says so. It knows no network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tabletop.asking import Asks, Denied
from tabletop.contract import CONTROL_HZ, HORIZON
from tabletop.env import Observation, TabletopEnv
from tabletop.verbs import Task
from tabletop.world import FRONT
from vlaapi_client import Answer, ChunkBroker, Plan, Step

TICK_S = 1 / CONTROL_HZ
GIVE_UP_STEPS = 30  # three seconds without motion
_MAX_AGE_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the robot asks. `delay_ms` is added to each answer, in simulated time; without overlap it asks at a chunk's end.

    With overlap it asks again after `ask_every` steps of a chunk: what records every step for training asks at every step.
    """

    delay_ms: int = 0
    has_overlap: bool = True
    ask_every: int = HORIZON // 2
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

    def clock() -> float:
        return line.now_s

    with ChunkBroker(asks, info["instruction"], _plan(manner), clock=clock, wall=clock, submit=line.submit) as broker:
        robot = _Robot(env=env, observation=observation, info=info)
        while not robot.is_over:
            due = broker.step(robot.observation[FRONT], robot.observation["state"] if manner.has_state else None)
            if line.denied is not None:
                raise line.denied
            if watch is not None:
                watch(robot.moment(due))
            robot.move(due)
            line.advance(robot.steps * TICK_S)
    return Outcome(
        seed=seed,
        task=info["task"],
        instruction=info["instruction"],
        is_success=robot.info["is_success"],
        is_wrong=robot.info["is_wrong"],
        steps=robot.steps,
        held_steps=robot.held,
        lost=robot.lost,
    )


def _plan(manner: Manner) -> Plan:
    return Plan(
        ask_when_left=1 - manner.ask_every / HORIZON if manner.has_overlap else 0.0,
        max_age_s=_MAX_AGE_S,
        deadline_ms=manner.deadline_ms,
        fields={} if manner.model is None else {"model": manner.model},
    )


@dataclass(slots=True, kw_only=True)
class _Robot:
    """The arm while it moves and holds. `held_in_row` counts steps without motion."""

    env: TabletopEnv
    observation: Observation
    info: dict[str, Any]
    held: int = 0
    held_in_row: int = 0
    lost: str | None = None

    @property
    def steps(self) -> int:
        """Made so far."""
        return int(self.info["steps"])

    @property
    def is_over(self) -> bool:
        """Done, out of time, or given up."""
        return self.info["is_success"] or self.lost is not None or self.steps >= self.env.settings.max_steps

    def move(self, due: Step) -> None:
        """One control step: what is due, or holding."""
        if due.values is not None:
            self.observation, _, _, _, self.info = self.env.step(due.values)
            self.held_in_row = 0
            return
        self.observation, self.info = self.env.hold()
        self.held, self.held_in_row = self.held + 1, self.held_in_row + 1
        if self.held_in_row >= GIVE_UP_STEPS and due.error is not None:
            self.lost = f"held for {self.held_in_row * TICK_S:.0f} s and gave up: {due.error}"

    def moment(self, due: Step) -> Moment:
        """What a watcher sees before the step."""
        error = None if due.error is None else str(due.error)
        return Moment(step=self.steps, observation=self.observation, action=due.values, answer=due.answer, error=error)
