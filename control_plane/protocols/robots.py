"""`GET /v1/robots` and `GET /v1/robots/{robot_type}/safety-profile`: every limit with its source, so that nobody need guess.

Straight from the profiles that the guard reads; null where nobody has published a number. Need a key like everything under /v1,
count against no limit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from control_plane.errors import ApiError
from control_plane.identity.scope import is_in_scope
from control_plane.policies.catalogue import ServedPolicy
from control_plane.policies.offer import Offer
from control_plane.policies.routes import Authenticate
from safety.guard import HASH_CHARS
from safety.profile import Preset, RobotProfile, limits_for

PATH = "/v1/robots"
PROFILE_PATH = "/v1/robots/{robot_type}/safety-profile"
_OWN = frozenset({"robot_type", "name", "version", "content_hash"})


class Robot(msgspec.Struct, frozen=True, kw_only=True):
    """One robot type. `models` are those served here that fit it, `action_kinds` what they speak."""

    robot_type: str
    name: str
    profile: str
    presets: tuple[str, ...]
    models: tuple[str, ...]
    action_kinds: tuple[str, ...]


class Robots(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `GET /v1/robots`."""

    robots: tuple[Robot, ...]


class SafetyProfile(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a safety profile. `profile` is everything that is known; `limits` what each preset makes of it."""

    robot_type: str
    name: str
    version: int
    content_hash: str
    profile: Mapping[str, Any]
    limits: Mapping[str, Any]
    certified: Annotated[bool, msgspec.Meta(description="Always false: this is not a safety function.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotList:
    """The endpoints. `profiles` are all that this release knows, served here or not."""

    offer: Offer
    profiles: Mapping[str, RobotProfile]
    authenticate: Authenticate

    async def list_robots(self, request: Request) -> Response:
        """Every robot that has a profile."""
        principal = await self.authenticate(request.headers.get("authorization"))
        offered = [policy for policy in self.offer.visible(principal) if is_in_scope(principal, policy.name)]
        robots = tuple(_robot(profile, offered) for profile in self.profiles.values())
        return _json(Robots(robots=robots))

    async def safety_profile(self, request: Request) -> Response:
        """One robot's profile. Raises robot_not_found."""
        await self.authenticate(request.headers.get("authorization"))
        robot = request.path_params["robot_type"]
        profile = self.profiles.get(robot)
        if profile is None:
            raise ApiError("robot_not_found", f"There is no safety profile for robot '{robot[:128]}'.", param="robot_type")
        return _json(profile_of(profile))


def _robot(profile: RobotProfile, offered: Sequence[ServedPolicy]) -> Robot:
    fitting = [policy for policy in offered if profile.robot_type in policy.manifest.robots]
    return Robot(
        robot_type=profile.robot_type,
        name=profile.name,
        profile=profile_id(profile),
        presets=tuple(preset.value for preset in Preset),
        models=tuple(policy.name for policy in fitting),
        action_kinds=tuple(sorted({policy.manifest.action.kind.value for policy in fitting})),
    )


def profile_id(profile: RobotProfile) -> str:
    """As verdicts name it, without preset and layers."""
    return f"{profile.robot_type}@{profile.version}/sha256:{profile.content_hash[:HASH_CHARS]}"


def profile_of(profile: RobotProfile) -> SafetyProfile:
    """The public form of a profile: each number is {"value" or "values", "source"}; `unpublished` says why there is none."""
    known = {field.name: plain(getattr(profile, field.name)) for field in fields(profile) if field.name not in _OWN}
    known["unpublished"] = dict(profile.unpublished)
    return SafetyProfile(
        robot_type=profile.robot_type,
        name=profile.name,
        version=profile.version,
        content_hash=f"sha256:{profile.content_hash}",
        profile=MappingProxyType(known),
        limits={preset.value: plain(limits_for(profile, preset)) for preset in Preset},
    )


def plain(value: object) -> Any:
    """A frozen value of `safety` as JSON has it, null and all. Infinite bounds are null: there is none."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if abs(value) != float("inf") else None
    return value


def _json(body: msgspec.Struct) -> Response:
    return Response(_ENCODER.encode(body), media_type="application/json")


_ENCODER = msgspec.json.Encoder(enc_hook=dict)
