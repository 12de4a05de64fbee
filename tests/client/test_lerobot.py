"""LeRobot's names and shapes in, an action in the same form out."""

import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.client.making import answer
from vlaapi_client import Camera, InvalidRequest, Model, RemotePolicy, Unavailable
from vlaapi_client.results import Answer

PICTURE: NDArray[np.uint8] = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
FLOATS = (PICTURE.astype(np.float32) / 255).transpose(2, 0, 1)


class Tensor:
    """What a tensor on another device has, of what the policy uses."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array, self.ndim, self.is_here = array, array.ndim, False

    def detach(self) -> "Tensor":
        return self

    def cpu(self) -> "Tensor":
        here = Tensor(self._array)
        here.is_here = True
        return here

    def numpy(self) -> NDArray[Any]:
        assert self.is_here, "a tensor on a device has no numpy()"
        return self._array


class Service:
    """A client whose answers the test decides."""

    def __init__(self, *cameras: str) -> None:
        self.asked: list[dict[str, Any]] = []
        self.cameras = cameras or ("front",)
        self.outcome: Answer | Exception = answer([[float(k)] * 7 for k in range(8)])

    def models(self) -> tuple[Model, ...]:
        cameras = tuple(Camera(name=name, is_required=True, width=8, height=8, resize="resize_naive") for name in self.cameras)
        common: dict[str, Any] = {"version": "1", "status": "ready", "robots": (), "cameras": cameras, "state_names": None}
        common |= {
            "is_state_required": False,
            "action_kind": "ee_delta_rotvec",
            "action_names": (),
            "horizon": 8,
            "control_hz": 10.0,
        }
        return tuple(Model(id=name, is_default=name == "tabletop", raw={}, **common) for name in ("other", "tabletop"))

    def infer(self, pictures: Any, instruction: str, *, deadline_ms: int | None = None, **fields: Any) -> Answer:
        self.asked.append({"pictures": pictures, "instruction": instruction, "deadline_ms": deadline_ms, **fields})
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.mark.parametrize("picture", [PICTURE, FLOATS, FLOATS[None], Tensor(FLOATS[None]), FLOATS.astype(np.float64)])
def test_pictures_of_every_form_arrive_as_the_camera_saw_them(picture: Any) -> None:
    service = Service()
    with RemotePolicy(service, task="go") as policy:
        policy.select_action({"observation.images.top": picture})
    assert (service.asked[0]["pictures"]["front"] == PICTURE).all()
    assert service.asked[0]["model"] == "tabletop"


@pytest.mark.parametrize(("picture", "shape"), [(PICTURE, (7,)), (FLOATS, (7,)), (FLOATS[None], (1, 7))])
def test_the_action_has_the_form_of_the_observation(picture: Any, shape: tuple[int, ...]) -> None:
    with RemotePolicy(Service(), task="go") as policy:
        action = policy.select_action({"observation.images.front": picture})
    assert action.shape == shape
    action += 1  # a copy: the answer's own numbers are frozen


def test_calls_give_the_steps_in_order_and_chunks_overlap_without_a_pause() -> None:
    service = Service()
    with RemotePolicy(service, task="go") as policy:
        first = [float(policy.select_action({"observation.image": PICTURE})[0]) for _ in range(5)]
        rest = [float(policy.select_action({"observation.image": PICTURE})[0]) for _ in range(20)]
    assert first == [0, 1, 2, 3, 4]
    assert set(rest) <= set(range(8))
    assert len(service.asked) > 3


def test_state_task_and_camera_names_are_lerobots() -> None:
    service = Service("front", "wrist")
    observation = {
        "observation.images.cam_high": PICTURE,
        "observation.images.wrist": PICTURE,
        "observation.images.depth": PICTURE,
        "observation.state": Tensor(np.array([[0.25, 0.5]], np.float32)),
        "task": ["pick up red cube"],
        "next.reward": 0.0,
    }
    with RemotePolicy(service, model="other", cameras={"cam_high": "front"}) as policy:
        assert policy.select_action(observation).shape == (1, 7)
    (asked,) = service.asked
    assert set(asked["pictures"]) == {"front", "wrist"}
    assert asked["state"].tolist() == [0.25, 0.5]
    assert (asked["instruction"], asked["model"]) == ("pick up red cube", "other")


def test_another_task_or_a_reset_is_another_episode() -> None:
    service = Service()
    with RemotePolicy(service) as policy:
        policy.select_action({"observation.image": PICTURE, "task": "pick up red cube"})
        policy.select_action({"observation.image": PICTURE, "task": "pick up blue cube"})
        policy.reset()
        policy.select_action({"observation.image": PICTURE, "task": "pick up blue cube"})
    assert [asked["instruction"] for asked in service.asked] == ["pick up red cube", "pick up blue cube", "pick up blue cube"]
    assert len({asked["session_id"] for asked in service.asked}) == 3


def test_no_motion_is_an_error_and_the_next_call_asks_again() -> None:
    service = Service()
    service.outcome = Unavailable("overloaded", "full", retry_after_s=0.01, is_retryable=True)
    with RemotePolicy(service, task="go") as policy:
        with pytest.raises(Unavailable):
            policy.select_action({"observation.image": PICTURE})
        service.outcome = answer()
        time.sleep(0.1)  # longer than the wait that was named
        assert policy.select_action({"observation.image": PICTURE}).shape == (7,)
    assert len(service.asked) == 2


@pytest.mark.parametrize("picture", [FLOATS * 255, FLOATS - 1, np.full_like(FLOATS, np.nan)])
def test_floats_that_are_no_picture_are_refused(picture: NDArray[Any]) -> None:
    with RemotePolicy(Service(), task="go") as policy, pytest.raises(InvalidRequest, match="0 to 1"):
        policy.select_action({"observation.image": picture})


def test_a_task_and_a_model_are_needed() -> None:
    with RemotePolicy(Service()) as policy, pytest.raises(InvalidRequest, match="task"):
        policy.select_action({"observation.image": PICTURE})
    with pytest.raises(InvalidRequest, match="other, tabletop"):
        RemotePolicy(Service(), model="third")
