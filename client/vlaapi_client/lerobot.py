"""A policy as LeRobot's loops call it: `select_action(observation)` and `reset()`, with LeRobot's names for what is in it.

Needs neither LeRobot nor torch: whatever has `.numpy()` is taken, and who sends tensors gets tensors. One call is one step at the
model's `control_hz`, as LeRobot counts; the next chunk is asked for in the background, and a call waits only when there is none.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vlaapi_client.calls import Fields
from vlaapi_client.chunks import Asks, ChunkBroker, Plan
from vlaapi_client.errors import DeadlineExceeded, InvalidRequest
from vlaapi_client.results import Model
from vlaapi_client.timeline import Due

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

IMAGES, IMAGE, STATE, TASK = "observation.images.", "observation.image", "observation.state", "task"
WAIT_S = 60.0  # more than any deadline a robot would set
_COLOURS, _IMAGE_DIMENSIONS = 3, 3


class AsksForModels(Asks, Protocol):
    """What the policy needs of a client."""

    def models(self) -> tuple[Model, ...]:
        """What each model wants and gives."""


class RemotePolicy:
    """A served policy in the place of a local one.

    `cameras` maps LeRobot's camera names to the model's where they differ; with one camera on both sides it is not needed.
    """

    def __init__(
        self,
        client: AsksForModels,
        *,
        model: str | None = None,
        task: str | None = None,
        cameras: Mapping[str, str] | None = None,
        plan: Plan | None = None,
    ) -> None:
        self.model = _chosen(client.models(), model)
        self._cameras, self._task, self._calls = dict(cameras or {}), task, 0
        plan = plan or Plan()
        fields: Fields = {**plan.fields, "model": self.model.id}
        self._broker = ChunkBroker(client, task or "", replace(plan, fields=fields), clock=self._played_s)
        self._said = task or ""

    def select_action(self, observation: Mapping[str, Any]) -> Any:
        """The next action, (D,) or (1, D) as the observation has it. Raises what `errors` draws: hold, stop, …"""
        pictures, state = self._pictures(observation), _state(observation.get(STATE))
        self._listen(observation)
        step = self._broker.step(pictures, state)
        if step.due is not Due.MOVE:
            if not self._broker.wait(WAIT_S):
                raise DeadlineExceeded("deadline_exceeded", "the service has not answered", is_retryable=True)
            step = self._broker.step(pictures, state)
        if step.values is None:
            raise step.error or DeadlineExceeded("deadline_exceeded", "the chunk came too late to be executed", is_retryable=True)
        self._calls += 1
        return _like(observation, step.values)

    def reset(self) -> None:
        """A new episode."""
        self._broker.reset(self._said)

    def close(self) -> None:
        """Ends the thread that asks."""
        self._broker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    def _played_s(self) -> float:
        return self._calls / self.model.control_hz

    def _listen(self, observation: Mapping[str, Any]) -> None:
        said = observation.get(TASK, self._task)
        if isinstance(said, (list, tuple)) and len(said) == 1:
            said = said[0]
        if not isinstance(said, str) or not said:
            raise InvalidRequest("invalid_instruction", "say what to do: observation['task'] or task=…", param=TASK)
        if said != self._said:
            self._said = said
            self._broker.reset(said)

    def _pictures(self, observation: Mapping[str, Any]) -> dict[str, NDArray[np.uint8]]:
        found = {name[len(IMAGES) :]: value for name, value in observation.items() if name.startswith(IMAGES)}
        if IMAGE in observation:
            found[""] = observation[IMAGE]
        wanted = [camera.name for camera in self.model.cameras]
        if len(found) == len(wanted) == 1 and not self._cameras:
            return {wanted[0]: _pixels(next(iter(found.values())), next(iter(found)))}
        named = {self._cameras.get(name, name): value for name, value in found.items()}
        return {name: _pixels(value, name) for name, value in named.items() if name in wanted}


def _chosen(models: tuple[Model, ...], name: str | None) -> Model:
    for model in models:
        if model.id == name or (name is None and model.is_default):
            return model
    raise InvalidRequest("unknown_model", f"the service has {', '.join(one.id for one in models) or 'no model'}", param="model")


def _array(value: Any) -> NDArray[Any]:
    """Tensors on whatever device, arrays, lists."""
    value = value.detach() if hasattr(value, "detach") else value
    value = value.cpu() if hasattr(value, "cpu") else value
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def _pixels(value: Any, camera: str) -> NDArray[np.uint8]:
    """LeRobot's pictures are float CHW from 0 to 1, with or without a batch of one; cameras give uint8 HWC. Either will do."""
    array, param = _array(value), f"images.{camera}"
    if array.ndim == _IMAGE_DIMENSIONS + 1 and len(array) == 1:
        array = array[0]
    if array.ndim == _IMAGE_DIMENSIONS and array.shape[0] == _COLOURS and array.shape[2] != _COLOURS:
        array = array.transpose(1, 2, 0)
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min(initial=0) < 0 or array.max(initial=0) > 1:
            raise InvalidRequest("invalid_image", "a picture of floats goes from 0 to 1", param=param)
        array = np.rint(array * 255).astype(np.uint8)
    return array


def _state(value: Any) -> NDArray[np.float64] | None:
    if value is None:
        return None
    array = _array(value).astype(np.float64)
    return array[0] if array.ndim == 2 and len(array) == 1 else array


def _like(observation: Mapping[str, Any], values: NDArray[np.float32]) -> Any:
    """In the form of the observation: a tensor for tensors, with a batch of one if pictures or state have one."""
    state = observation.get(STATE)
    sample = next((value for name, value in observation.items() if name.startswith(IMAGE)), state)
    is_batch = getattr(state, "ndim", 1) == 2 or getattr(sample, "ndim", _IMAGE_DIMENSIONS) > _IMAGE_DIMENSIONS
    shaped = values[None] if is_batch else values
    torch = sys.modules.get("torch")
    return shaped.copy() if torch is None or not hasattr(sample, "detach") else torch.from_numpy(shaped.copy())
