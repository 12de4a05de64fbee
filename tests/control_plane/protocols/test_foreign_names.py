"""Somebody else's names, laid onto policies as their examples have them; nothing is guessed, and the page says the same."""

import re
from typing import Any

import numpy as np
import pytest

from control_plane.errors import ApiError
from control_plane.inference.observation import Inquiry
from control_plane.protocols.foreign_names import PLACES, Foreign
from control_plane.protocols.openpi import observed
from export.contract.facts import State
from tests.control_plane.fakes import ROOT
from tests.control_plane.inference.test_contract import camera, served

PICTURE = np.zeros((32, 32, 3), np.uint8)
JOINTS = tuple(f"joint_{number}" for number in range(1, 8))
DROID_STATE = State(names=(*JOINTS, "gripper"), units=("rad",) * 7 + ("fraction",), is_required=True, tensor="state")


def cameras(*names: str) -> tuple[Any, ...]:
    return tuple(camera(name, is_required=True) for name in names)


def laid(observation: dict[str, Any], **manifest: Any) -> Inquiry:
    inquiry = observed({"prompt": "go", **observation})
    assert isinstance(inquiry.fit, Foreign)
    return inquiry.fit(inquiry, served(**manifest).manifest)


def test_droid_fits_a_policy_of_droids_quantities() -> None:
    observation = {
        "observation/exterior_image_1_left": PICTURE,
        "observation/wrist_image_left": PICTURE,
        "observation/joint_position": np.arange(7) / 10,
        "observation/gripper_position": np.array([0.25]),
    }
    found = laid(observation, cameras=cameras("exterior", "wrist"), state=DROID_STATE)
    assert set(found.images) == {"exterior", "wrist"}
    assert found.state == pytest.approx((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.25))
    assert found.ignored == ()


def test_libero_and_aloha_go_to_their_cameras() -> None:
    libero = laid(
        {"observation/image": PICTURE, "observation/wrist_image": PICTURE, "observation/state": np.zeros(8)},
        cameras=cameras("agent", "wrist"),
    )
    assert (set(libero.images), libero.state) == ({"agent", "wrist"}, (0.0,) * 8)
    names = ("cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist")
    aloha = laid({"images": dict.fromkeys(names, PICTURE)}, cameras=cameras("top", "low", "left_wrist", "right_wrist"))
    assert set(aloha.images) == {"top", "low", "left_wrist", "right_wrist"}
    own = laid({"images": dict.fromkeys(names, PICTURE)}, cameras=cameras(*reversed(names)))
    assert set(own.images) == set(names)
    assert own.sent_as["cam_high"] == "images/cam_high"


def test_two_wrist_cameras_leave_it_open_which_is_meant() -> None:
    found = laid(
        {"observation/image": PICTURE, "observation/wrist_image": PICTURE}, cameras=cameras("top", "left_wrist", "right_wrist")
    )
    assert (set(found.images), found.ignored) == ({"top"}, ("observation/wrist_image",))


def test_a_state_that_the_policy_does_not_take_is_left_out_and_said_so() -> None:
    found = laid({"observation/image": PICTURE, "observation/state": np.zeros(8)}, state=None)
    assert (found.state, found.ignored) == (None, ("observation/state",))


@pytest.mark.parametrize("units", [("rad",) * 7 + ("m",), ("deg",) * 7 + ("fraction",)])
def test_other_units_are_refused_not_converted(units: tuple[str, ...]) -> None:
    state = State(names=DROID_STATE.names, units=units, is_required=True, tensor="state")
    with pytest.raises(ApiError) as refused:
        laid({"image": PICTURE, "joint_position": np.zeros(7), "gripper_position": np.zeros(1)}, state=state)
    assert refused.value.kind.code == "invalid_state"


def test_the_page_has_every_name_that_is_known() -> None:
    page = (ROOT / "docs/PROTOCOLS.md").read_text()
    table = page[page.index("### The observation") : page.index("### The answer")]
    assert set(PLACES) <= set(re.findall(r"`([a-z0-9_]+)`", table))
