"""What the robot can be asked to do: a verb and the name of a thing. No words of people and no simulator."""

from dataclasses import dataclass
from enum import StrEnum

from tabletop.things import BOWL, COLOURS, Shape


class Verb(StrEnum):
    """What is done to the named thing."""

    PICK_UP = "pick_up"
    MOVE_TO = "move_to"
    PUT_IN_BOWL = "put_in_bowl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One request. `thing` is a thing's name, or `bowl` where the verb allows it."""

    verb: Verb
    thing: str

    @property
    def colour(self) -> str:
        """The first word of the thing's name; the bowl has none and is called by its own."""
        return self.thing.partition(" ")[0]


def _all() -> tuple[Task, ...]:
    names = [f"{colour} {shape}" for shape in Shape for colour in COLOURS]
    found = [Task(verb=verb, thing=name) for verb in Verb for name in names]
    return (*found, Task(verb=Verb.MOVE_TO, thing=BOWL))


ALL_TASKS = _all()
