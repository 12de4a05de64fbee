"""`GET /v1/models`: what each policy wants and gives, straight from its manifest, so that an integrator need not guess.

Needs a key like everything under /v1, counts against no limit.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from control_plane.identity.principal import Principal
from control_plane.identity.scope import is_in_scope
from control_plane.policies.offer import Offer
from control_plane.policies.readiness import Canary, PolicyState
from export.contract.manifest import Manifest

PATH = "/v1/models"

Authenticate = Callable[[str | None], Awaitable[Principal]]


class ModelCamera(msgspec.Struct, frozen=True, kw_only=True):
    """A picture to send: `image` for the first camera, `images.<name>` for any."""

    name: str
    is_required: bool
    width: int
    height: int
    resize: str


class ModelState(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of `state`, in order."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    is_required: bool


class ModelInstruction(msgspec.Struct, frozen=True, kw_only=True):
    """How long an instruction may be; null where the policy takes none."""

    max_chars: int
    max_tokens: int


class ModelAction(msgspec.Struct, frozen=True, kw_only=True):
    """What comes back. A request must name one of several `unnorm_keys`; the only one is taken unasked."""

    kind: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    frame: str
    gripper_polarity: str | None
    horizon: int
    control_hz: float
    unnorm_keys: tuple[str, ...]
    is_unnorm_key_required: bool


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One policy. `version` answers requests that name none; `model: "<id>@<version>"` asks for another of `versions`."""

    id: str
    version: str
    versions: tuple[str, ...]
    family: str
    description: str
    licence: str
    is_default: bool
    status: PolicyState
    robots: tuple[str, ...]
    cameras: tuple[ModelCamera, ...]
    state: ModelState | None
    instruction: ModelInstruction | None
    action: ModelAction


class Models(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `GET /v1/models`."""

    models: tuple[Model, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelList:
    """The endpoint."""

    offer: Offer
    canary: Canary
    authenticate: Authenticate

    async def list_models(self, request: Request) -> Response:
        """Every policy that the key may use, with its present state."""
        principal = await self.authenticate(request.headers.get("authorization"))
        states = await self.canary.states()
        default = self.offer.name_of(None)
        models = tuple(
            model_of(
                policy.manifest,
                status=states.get(policy.model, PolicyState.UNAVAILABLE),
                is_default=policy.name == default,
                versions=self.offer.versions(policy.name),
            )
            for policy in self.offer.visible(principal)
            if is_in_scope(principal, policy.name)
        )
        return Response(msgspec.json.encode(Models(models=models)), media_type="application/json")


def model_of(manifest: Manifest, *, status: PolicyState, is_default: bool, versions: tuple[int, ...]) -> Model:
    """The public part of a manifest."""
    state, words, action = manifest.state, manifest.instruction, manifest.action
    return Model(
        id=manifest.policy,
        version=str(manifest.version),
        versions=tuple(map(str, versions)),
        family=manifest.family,
        description=manifest.description,
        licence=manifest.source.licence,
        is_default=is_default,
        status=status,
        robots=manifest.robots,
        cameras=tuple(
            ModelCamera(name=c.name, is_required=c.is_required, width=c.width, height=c.height, resize=c.resize.value)
            for c in manifest.cameras
        ),
        state=None if state is None else ModelState(names=state.names, units=state.units, is_required=state.is_required),
        instruction=None if words is None else ModelInstruction(max_chars=words.max_chars, max_tokens=words.max_tokens),
        action=ModelAction(
            kind=action.kind.value,
            names=action.names,
            units=action.units,
            frame=action.frame,
            gripper_polarity=None if action.gripper_polarity is None else action.gripper_polarity.value,
            horizon=action.horizon,
            control_hz=action.control_hz,
            unnorm_keys=action.unnorm_keys,
            is_unnorm_key_required=len(action.unnorm_keys) > 1,
        ),
    )
