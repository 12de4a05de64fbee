"""An inquiry that does not fit a policy is refused by the field's name; nothing is invented for it."""

from typing import Any

import numpy as np
import pytest

from control_plane.errors import ApiError
from control_plane.inference.contract import WORDLESS_MAX_CHARS, Contract
from control_plane.inference.observation import Inquiry
from control_plane.policies.catalogue import Catalogue, ServedPolicy, load_catalogue
from control_plane.policies.offer import Offer
from control_plane.policies.readiness import PolicyState
from control_plane.policies.routes import model_of
from control_plane.policies.standing import Standing
from export.contract.facts import Camera, ResizeRule, State
from export.contract.manifest import Manifest
from tests.control_plane.fakes import ROOT, principal

SHIPPED = load_catalogue(ROOT / "model_repository", default="tabletop").policies["tabletop"]


def served(**changes: Any) -> ServedPolicy:
    """The shipped policy with some facts replaced."""
    manifest = Manifest.model_validate({**SHIPPED.manifest.model_dump(), **changes}, strict=False)
    return ServedPolicy(manifest=manifest, tokenizer=SHIPPED.tokenizer)


def contract(policy: ServedPolicy = SHIPPED, *, default_robot: str = "franka_panda") -> Contract:
    offer = Offer(catalogue=Catalogue([policy], default=policy.name), standing=Standing())
    return Contract(offer=offer, default_robot=default_robot)


def inquiry(**changes: Any) -> Inquiry:
    return Inquiry(**{"image": b"picture", "images": {}, "instruction": "pick up red cube", **changes})


def refusal(checked: Contract, asked: Inquiry) -> ApiError:
    with pytest.raises(ApiError) as caught:
        checked.check(asked, principal())
    return caught.value


def camera(name: str, *, is_required: bool) -> Camera:
    mask = None if is_required else f"{name}_mask"
    return Camera(name=name, is_required=is_required, width=32, height=32, resize=ResizeRule.NAIVE, tensor=name, mask_tensor=mask)


TWO_CAMERAS = served(cameras=(camera("front", is_required=True), camera("wrist", is_required=True)))
OPTIONAL_WRIST = served(cameras=(camera("front", is_required=True), camera("wrist", is_required=False)))
NEEDS_STATE = served(state=State(names=("a", "b"), units=("rad", "m"), is_required=True, tensor="state"))
NO_STATE = served(state=None)
UNSCALED = {"scheme": "bounds", "low": (-1.0,) * 7, "high": (1.0,) * 7, "mask": (True,) * 7, "epsilon": 0.0}
CHOICE = {
    "unnorm_keys": ("bridge", "fractal"),
    "unnorm_tensor": "unnorm_index",
    "statistics": {"bridge": UNSCALED, "fractal": UNSCALED},
}
TWO_KEYS = served(action={**SHIPPED.manifest.action.model_dump(), **CHOICE})


def test_the_minimum_fits_the_shipped_policy() -> None:
    observation = contract().check(inquiry(), principal())
    assert observation.policy is SHIPPED
    assert observation.robot_type == "franka_panda"
    assert [(picture.camera.name, picture.param) for picture in observation.pictures] == [("front", "image")]
    assert observation.state is None
    assert observation.unnorm_key == "tabletop"


def test_a_policy_that_takes_no_words_still_bounds_them() -> None:
    wordless = served(instruction=None)
    assert contract(wordless).check(inquiry(instruction="x" * WORDLESS_MAX_CHARS), principal()).instruction
    refused = refusal(contract(wordless), inquiry(instruction="x" * (WORDLESS_MAX_CHARS + 1)))
    assert (refused.kind.code, refused.param) == ("invalid_instruction", "instruction")


def test_state_is_passed_on_as_float32() -> None:
    observation = contract().check(inquiry(state=tuple(map(float, range(8)))), principal())
    assert observation.state is not None
    assert observation.state.dtype == np.float32
    assert observation.state.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_the_first_camera_may_be_named_instead_of_image() -> None:
    observation = contract().check(inquiry(image=None, images={"front": b"picture"}), principal())
    assert [picture.param for picture in observation.pictures] == ["images.front"]


def test_pictures_come_in_the_manifests_order() -> None:
    observation = contract(TWO_CAMERAS).check(inquiry(image=None, images={"wrist": b"w", "front": b"f"}), principal())
    assert [picture.data for picture in observation.pictures] == [b"f", b"w"]


def test_an_optional_camera_that_is_absent_is_left_out() -> None:
    observation = contract(OPTIONAL_WRIST).check(inquiry(), principal())
    assert [picture.camera.name for picture in observation.pictures] == ["front"]


def test_the_instruction_is_trimmed_and_otherwise_verbatim() -> None:
    assert contract().check(inquiry(instruction="  Pick up Red cube. "), principal()).instruction == "Pick up Red cube."


@pytest.mark.parametrize(
    ("policy", "changes", "code", "param"),
    [
        (SHIPPED, {"model": "gpt"}, "unknown_model", "model"),
        (SHIPPED, {"robot_type": "ur5e"}, "unknown_robot", "robot_type"),
        (SHIPPED, {"image": None}, "missing_field", "image"),
        (SHIPPED, {"images": {"front": b"x"}}, "invalid_field", "images.front"),
        (SHIPPED, {"images": {"wrist": b"x"}}, "unknown_camera", "images.wrist"),
        (TWO_CAMERAS, {}, "missing_field", "images.wrist"),
        (TWO_CAMERAS, {"image": None, "images": {"wrist": b"x"}}, "missing_field", "image"),
        (SHIPPED, {"instruction": ""}, "invalid_instruction", "instruction"),
        (SHIPPED, {"instruction": " \t\n "}, "invalid_instruction", "instruction"),
        (SHIPPED, {"instruction": "x" * 257}, "invalid_instruction", "instruction"),
        (SHIPPED, {"instruction": "x" * 10_000}, "invalid_instruction", "instruction"),
        (SHIPPED, {"instruction": "pick\0up"}, "invalid_instruction", "instruction"),
        (SHIPPED, {"instruction": "pick\nup"}, "invalid_instruction", "instruction"),
        (SHIPPED, {"instruction": "pick \x9b up"}, "invalid_instruction", "instruction"),
        (SHIPPED, {"instruction": "pick \ud800 up"}, "invalid_instruction", "instruction"),
        (SHIPPED, {"state": ()}, "invalid_state", "state"),
        (SHIPPED, {"state": (0.0,) * 7}, "invalid_state", "state"),
        (NO_STATE, {"state": (0.0,)}, "invalid_state", "state"),
        (NEEDS_STATE, {}, "missing_field", "state"),
        (SHIPPED, {"unnorm_key": "bridge"}, "unknown_unnorm_key", "unnorm_key"),
        (TWO_KEYS, {}, "missing_field", "unnorm_key"),
    ],
)
def test_what_does_not_fit_is_named(policy: ServedPolicy, changes: dict[str, Any], code: str, param: str) -> None:
    error = refusal(contract(policy), inquiry(**changes))
    assert (error.kind.code, error.param) == (code, param)
    assert 400 <= error.kind.status < 500


def test_a_robot_is_assumed_only_where_the_policy_fits_it() -> None:
    error = refusal(contract(default_robot="ur5e"), inquiry())
    assert (error.kind.code, error.param) == ("missing_field", "robot_type")


def test_one_of_several_action_statistics_can_be_chosen() -> None:
    assert contract(TWO_KEYS).check(inquiry(unnorm_key="fractal"), principal()).unnorm_key == "fractal"


def test_a_missing_state_says_what_the_model_needs() -> None:
    assert "a (rad), b (m)" in refusal(contract(NEEDS_STATE), inquiry()).message


def test_the_list_of_models_says_whether_a_key_must_be_named() -> None:
    def is_said_of(policy: ServedPolicy) -> bool:
        listed = model_of(policy.manifest, status=PolicyState.READY, is_default=True, versions=(1,))
        return listed.action.is_unnorm_key_required

    assert contract(SHIPPED).check(inquiry(), principal())
    assert not is_said_of(SHIPPED)
    assert refusal(contract(TWO_KEYS), inquiry()).param == "unnorm_key"
    assert is_said_of(TWO_KEYS)
