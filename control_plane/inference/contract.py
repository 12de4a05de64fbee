"""Step 5: the inquiry is held against the policy's manifest. Everything that does not fit is a 4xx naming the field.

Nothing is filled in on the caller's behalf but the defaults an operator has set; above all, state is never invented.
Pure: no store, no clock, no picture is decoded here.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from control_plane.errors import ApiError
from control_plane.identity.principal import Principal
from control_plane.inference.observation import Inquiry, Observation, Picture
from control_plane.policies.offer import Offer
from export.contract.manifest import Manifest

WORDLESS_MAX_CHARS = 1024  # for a policy that takes no words: they are only written down
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What is served here, and the robot meant by a request that names none."""

    offer: Offer
    default_robot: str

    def check(self, inquiry: Inquiry, principal: Principal) -> Observation:
        """The inquiry as the policy will see it. Raises ApiError naming the field that does not fit."""
        policy = self.offer.choose(principal, inquiry.model, session_id=inquiry.session_id)
        if inquiry.fit is not None:
            inquiry = inquiry.fit(inquiry, policy.manifest)
        return Observation(
            policy=policy,
            robot_type=_robot(policy.manifest, inquiry.robot_type, self.default_robot),
            pictures=_pictures(policy.manifest, inquiry),
            instruction=_instruction(policy.manifest, inquiry.instruction),
            state=_state(policy.manifest, inquiry.state),
            unnorm_key=_unnorm_key(policy.manifest, inquiry.unnorm_key),
            session_id=inquiry.session_id,
            seq=inquiry.seq,
            obs_age_ms=inquiry.obs_age_ms,
            executed_index=inquiry.executed_index,
            network_rtt_ms=inquiry.network_rtt_ms,
            safety=inquiry.safety,
            ignored=inquiry.ignored,
        )

    def scope(self, inquiry: Inquiry) -> tuple[str, str]:
        """The names of policy and robot that the inquiry means, not yet held against anything."""
        return self.offer.name_of(inquiry.model), inquiry.robot_type or self.default_robot


def _robot(manifest: Manifest, asked: str | None, default: str) -> str:
    robot = default if asked is None else asked
    if robot in manifest.robots:
        return robot
    fitting = ", ".join(manifest.robots)
    if asked is None:
        raise ApiError("missing_field", f"This model needs robot_type: one of {fitting}.", param="robot_type")
    raise ApiError("unknown_robot", f"The model does not fit robot '{robot}'; it fits {fitting}.", param="robot_type")


def _pictures(manifest: Manifest, inquiry: Inquiry) -> tuple[Picture, ...]:
    """One per camera that was sent, in the manifest's order. A camera that is optional and absent is left out, not faked."""
    first = manifest.primary_camera.name
    if inquiry.image is not None and first in inquiry.images:
        raise ApiError(
            "invalid_field", f"Camera '{first}' is given twice: as image and as images.{first}.", param=f"images.{first}"
        )
    cameras = {camera.name: camera for camera in manifest.cameras}
    for name in inquiry.images:
        if name not in cameras:
            message = f"The model has no camera '{name[:128]}'; it has {', '.join(cameras)}."
            raise ApiError("unknown_camera", message, param=f"images.{name[:128]}")
    sent = {name: (data, inquiry.sent_as.get(name, f"images.{name}")) for name, data in inquiry.images.items()}
    if inquiry.image is not None:
        sent[first] = (inquiry.image, "image")
    for camera in manifest.cameras:
        if camera.is_required and camera.name not in sent:
            param = "image" if camera.name == first else f"images.{camera.name}"
            raise ApiError("missing_field", f"The picture of camera '{camera.name}' is missing.", param=param)
    return tuple(
        Picture(camera=camera, data=sent[camera.name][0], param=sent[camera.name][1])
        for camera in manifest.cameras
        if camera.name in sent
    )


def _instruction(manifest: Manifest, text: str) -> str:
    instruction = text.strip()
    if not instruction:
        raise ApiError("invalid_instruction", "The instruction is empty.", param="instruction")
    limit = WORDLESS_MAX_CHARS if manifest.instruction is None else manifest.instruction.max_chars
    if len(instruction) > limit:
        message = f"The instruction has {len(instruction)} characters, this model takes {limit}."
        raise ApiError("invalid_instruction", message, param="instruction")
    if _CONTROL.search(instruction):
        raise ApiError("invalid_instruction", "The instruction contains control characters.", param="instruction")
    return instruction


def _state(manifest: Manifest, values: tuple[float, ...] | None) -> NDArray[np.float32] | None:
    spec = manifest.state
    if values is None:
        if spec is not None and spec.is_required:
            raise ApiError("missing_field", f"This model needs state: {_described(manifest)}.", param="state")
        return None
    if spec is None:
        raise ApiError("invalid_state", "This model takes no state.", param="state")
    if len(values) != len(spec.names):
        message = f"state has {len(values)} numbers, this model takes {len(spec.names)}: {_described(manifest)}."
        raise ApiError("invalid_state", message, param="state")
    return np.array(values, dtype=np.float32)


def _described(manifest: Manifest) -> str:
    spec = manifest.state
    return "" if spec is None else ", ".join(f"{name} ({unit})" for name, unit in zip(spec.names, spec.units, strict=True))


def _unnorm_key(manifest: Manifest, asked: str | None) -> str | None:
    keys = manifest.action.unnorm_keys
    if asked is None:
        if len(keys) > 1:
            raise ApiError("missing_field", f"This model needs unnorm_key: one of {', '.join(keys)}.", param="unnorm_key")
        return keys[0] if keys else None
    if asked not in keys:
        message = f"The model has no action statistics '{asked}'; it has {', '.join(keys) or 'none'}."
        raise ApiError("unknown_unnorm_key", message, param="unnorm_key")
    return asked
