"""Which tasks a scene allows, and whether the robot has done one: judged from the truth of the simulation, never from pictures.

`Judge` watches one episode. It knows no words (see `instructions`) and no policy.
"""

import numpy as np

from tabletop.scene import View
from tabletop.things import BOWL, BOWL_HEIGHT_M, BOWL_RADIUS_M, Layout
from tabletop.verbs import Task, Verb

LIFTED_M = 0.06  # a thing so far above its resting height counts as picked up
HOVER_LOW_M, HOVER_HIGH_M, HOVER_ASIDE_M = 0.03, 0.15, 0.025
STAY_STEPS = 5  # half a second over a thing is no passing by


def draw_task(view: View, random: np.random.Generator, verbs: tuple[Verb, ...] = tuple(Verb)) -> Task:
    """One that this scene allows, preferring `verbs` in the shares in which they are given."""
    verb = verbs[int(random.integers(len(verbs)))]
    if verb is Verb.PUT_IN_BOWL and view.bowl_at is None:
        verb = Verb.PICK_UP
    things = [*view.things, BOWL] if verb is Verb.MOVE_TO and view.bowl_at is not None else list(view.things)
    return Task(verb=verb, thing=things[int(random.integers(len(things)))])


def verbs_of(layout: Layout) -> tuple[Verb, ...]:
    """What can be asked in scenes of that layout."""
    return (Verb.PICK_UP,) if layout is Layout.CUBES else tuple(Verb)


class Judge:
    """Watches one episode: call `watch` after every step."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._over: dict[str, int] = {}
        self.is_done = False
        self.is_wrong = False  # the verb was done to another thing

    def watch(self, view: View) -> None:
        """One more step was made."""
        reached = self._reached(view)
        self.is_done = self.is_done or self._task.thing in reached
        self.is_wrong = self.is_wrong or bool(reached - {self._task.thing})

    def _reached(self, view: View) -> set[str]:
        match self._task.verb:
            case Verb.PICK_UP:
                return {name for name in view.things if is_lifted(view, name)}
            case Verb.MOVE_TO:
                return self._stayed_over(view)
            case Verb.PUT_IN_BOWL:
                return {name for name in view.things if is_in_bowl(view, name) and not is_held(view, name)}

    def _stayed_over(self, view: View) -> set[str]:
        names = [*view.things, *([] if view.bowl_at is None else [BOWL])]
        self._over = {name: self._over.get(name, 0) + 1 for name in names if is_over(view, name)}
        return {name for name, steps in self._over.items() if steps >= STAY_STEPS}


def is_lifted(view: View, name: str) -> bool:
    """Whether that thing is off the table."""
    seen = view.things[name]
    return bool(seen.position[2] > seen.half_height_m + LIFTED_M)


def is_over(view: View, name: str) -> bool:
    """Whether the tool is just above that thing or the bowl."""
    gap = view.tool.position - place_of(view, name)
    return bool(np.hypot(gap[0], gap[1]) < HOVER_ASIDE_M and HOVER_LOW_M < gap[2] < HOVER_HIGH_M)


def is_in_bowl(view: View, name: str) -> bool:
    """Whether that thing lies inside the rim."""
    if view.bowl_at is None:
        return False
    gap = view.things[name].position - view.bowl_at
    return bool(np.hypot(gap[0], gap[1]) < BOWL_RADIUS_M and gap[2] < BOWL_HEIGHT_M + 0.01)


def is_held(view: View, name: str) -> bool:
    """Whether the fingers are around that thing."""
    gap = float(np.linalg.norm(view.things[name].position - view.tool.position))
    return gap < 0.03 and view.finger_width_m < 0.05


def place_of(view: View, name: str) -> np.ndarray:
    """(3,) m where a thing, or the bowl's floor, is."""
    if name == BOWL:
        if view.bowl_at is None:
            raise KeyError(BOWL)
        return np.asarray(view.bowl_at)
    return np.asarray(view.things[name].position)
