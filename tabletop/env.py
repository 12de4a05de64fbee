"""The table as a Gymnasium environment: pictures of two cameras and the robot's state in, one action of 0.1 s out.

`reset(seed)` decides everything: scene, look, task and the words that ask for it. It knows no policy, and the truth stays out of
what a policy may see: `info` has it for judges.
"""

from dataclasses import dataclass
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from tabletop.appearance import Appearance
from tabletop.contract import CONTROL_HZ, STATE
from tabletop.instructions import held_out_instruction, plain_instruction, training_instruction
from tabletop.render import Camera
from tabletop.scene import MAX_SHIFT_M, MAX_TURN_RAD, Tabletop
from tabletop.tasks import Judge, draw_task, verbs_of
from tabletop.things import Layout
from tabletop.verbs import Task, Verb
from tabletop.wording import Wording
from tabletop.world import FRONT, WRIST

Observation = dict[str, NDArray[Any]]
MAX_STEPS = 120
_STATE_LOW, _STATE_HIGH = np.array([-np.pi] * 7 + [0.0]), np.array([np.pi * 1.2] * 7 + [0.1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Which table this is. `verbs` None: all that the layout allows. `task` asks for the same in every scene that allows it."""

    layout: Layout = Layout.VARIED
    verbs: tuple[Verb, ...] | None = None
    task: Task | None = None
    wording: Wording = Wording.PLAIN
    picture_px: int = 224
    cameras: tuple[str, ...] = (FRONT, WRIST)
    camera_bump: float = 1.0
    max_steps: int = MAX_STEPS


@dataclass(slots=True)
class _Scene:
    """What `reset` decided."""

    task: Task
    instruction: str
    judge: Judge
    steps: int = 0


class TabletopEnv(gymnasium.Env[Observation, NDArray[np.float32]]):
    """A Panda at a table. Rewards 1 for the step that does the task. Raises RenderUnavailable where nothing can be drawn."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": int(CONTROL_HZ)}  # noqa: RUF012 -- Gymnasium's own name and form

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.table = Tabletop()
        self.render_mode = "rgb_array"
        self._appearance = Appearance(self.table)
        size = self.settings.picture_px
        self._cameras = {name: Camera(self.table, size_px=size, name=name) for name in self.settings.cameras}
        pictures = {name: spaces.Box(0, 255, (size, size, 3), np.uint8) for name in self.settings.cameras}
        state = spaces.Box(_STATE_LOW.astype(np.float32), _STATE_HIGH.astype(np.float32), (len(STATE.names),), np.float32)
        self.observation_space = spaces.Dict({**pictures, "state": state})
        high = np.array([MAX_SHIFT_M] * 3 + [MAX_TURN_RAD] * 3 + [1.0], dtype=np.float32)
        self.action_space = spaces.Box(np.append(-high[:6], np.float32(0.0)), high, (7,), np.float32)
        self._scene: _Scene | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """A new scene and a new task. `options` may hold `task` and `instruction` in the place of drawn ones."""
        super().reset(seed=seed)
        chosen = seed if seed is not None else int(self.np_random.integers(2**31))
        self.table.reset(chosen, self.settings.layout, needs_bowl=self.settings.verbs == (Verb.PUT_IN_BOWL,))
        self._appearance.vary(chosen, camera_bump=self.settings.camera_bump)
        task = (options or {}).get("task") or self._task(chosen)
        words = np.random.default_rng((chosen, 14))
        instruction = (options or {}).get("instruction") or say(task, self.settings.wording, words)
        self._scene = _Scene(task=task, instruction=instruction, judge=Judge(task))
        return self._seen(), self._info()

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Moves for 0.1 s; what asks for more than the robot's limits is cut to them."""
        scene = self._asked()
        was_done = scene.judge.is_done
        self.table.apply(action)
        scene.judge.watch(self.table.view)
        scene.steps += 1
        is_done = scene.judge.is_done
        return self._seen(), float(is_done and not was_done), is_done, scene.steps >= self.settings.max_steps, self._info()

    def hold(self) -> tuple[Observation, dict[str, Any]]:
        """0.1 s in which the arm stays and the fingers stay as they are told."""
        scene = self._asked()
        self.table.stay()
        scene.judge.watch(self.table.view)
        scene.steps += 1
        return self._seen(), self._info()

    def render(self) -> NDArray[np.uint8]:
        """What the first camera sees."""
        return next(iter(self._cameras.values())).picture()

    def close(self) -> None:
        """Gives the drawing contexts back."""
        for camera in self._cameras.values():
            camera.close()
        self._cameras = {}

    def _task(self, seed: int) -> Task:
        if self.settings.task is not None:
            return self.settings.task
        return draw_task(
            self.table.view, np.random.default_rng((seed, 13)), self.settings.verbs or verbs_of(self.settings.layout)
        )

    def _seen(self) -> Observation:
        return {**{name: camera.picture() for name, camera in self._cameras.items()}, "state": self.table.state}

    def _info(self) -> dict[str, Any]:
        scene = self._asked()
        return {
            "task": scene.task,
            "instruction": scene.instruction,
            "is_success": scene.judge.is_done,
            "is_wrong": scene.judge.is_wrong,
            "steps": scene.steps,
        }

    def _asked(self) -> _Scene:
        if self._scene is None:
            raise gymnasium.error.ResetNeeded("call reset before step")
        return self._scene


def say(task: Task, wording: Wording, random: np.random.Generator) -> str:
    """An instruction for that task, in that wording."""
    match wording:
        case Wording.PLAIN:
            return plain_instruction(task)
        case Wording.TRAINING:
            return training_instruction(task, random)
        case Wording.HELD_OUT:
            return held_out_instruction(task, random)
