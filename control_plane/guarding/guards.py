"""The guard in force for one request: profile → customer → deployment → request, each layer may only tighten.

Built at start-up per policy and robot, so a convention or a robot that cannot be checked stops the process, not a request; with
layers on top it is built when first needed and kept. A customer's layer comes with their key's record, so that a change is heard
as every change of a key is. Raises ApiError `invalid_safety` for layers that do not fit. Knows no store.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import msgspec
from cachetools import LRUCache

from control_plane.errors import ApiError
from control_plane.guarding.fields import LimitFields, Settings, instruction_of, layer_of, naming, thresholds_of
from control_plane.guarding.robot_state import StateColumns, columns_of
from control_plane.identity.principal import CustomerSafety
from control_plane.policies.catalogue import Catalogue, ServedPolicy
from export.contract.facts import Action
from export.contract.statistics import Bounds
from safety.action_space import ActionKind, ActionSpace, GripperPolarity, UnsupportedActionSpaceError
from safety.calibration import Thresholds
from safety.context import NOTHING_KNOWN, Context
from safety.guard import Guard
from safety.instruction import DenyList, InstructionCheck, load_deny_list
from safety.layering import GuardPolicy, Layer, base_policy, layered
from safety.profile import Preset, RobotProfile, load_profiles
from safety.verdict import Verdict

_CUSTOMERS_KEPT, _REQUESTS_KEPT = 4096, 1024
_DECODER = msgspec.json.Decoder(Settings)
_NOTHING = Settings()
_NO_COLUMNS = StateColumns()

Pair = tuple[str, str]  # the policy version as Triton calls it, robot


class PolicyUnguardedError(Exception):
    """A policy of the repository that no guard could check; the text says what to do."""

    def __init__(self, policy: str, why: str) -> None:
        super().__init__(
            f"policy '{policy}' cannot be guarded: {why}; export it again for what can be checked, or take its folder away"
        )


class Checker(Protocol):
    """What `safety.guard.Guard` is to the pipeline."""

    def check(self, raw: object, context: Context = NOTHING_KNOWN) -> Verdict:
        """The verdict on a (T, D) array."""

    def check_context(self, context: Context) -> Verdict | None:
        """The refusal that the request alone would bring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """What checks one request. `instructions` is None where any instruction may pass."""

    guard: Checker
    columns: StateColumns
    state_path: str = "safety."  # where in the request the state stands that the policy's own does not tell
    instructions: InstructionCheck | None = None
    is_rejection_an_error: bool = False
    policy: GuardPolicy | None = None


class GuardsInForce:
    """Every guard of one process."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        preset: Preset,
        deployment: Settings = _NOTHING,
        profiles: Mapping[str, RobotProfile] | None = None,
    ) -> None:
        """`profiles` None: those that are shipped.

        Raises PolicyUnguardedError for a robot or convention that cannot be checked, ApiError for the deployment's layer.
        """
        self._preset = preset
        self._deployment = deployment
        self._deny_list: DenyList = load_deny_list()
        self.profiles: Mapping[str, RobotProfile] = load_profiles() if profiles is None else profiles
        check_settings(deployment, self.profiles, preset, path="")
        self._customers: LRUCache[tuple[Pair, UUID, int], InForce] = LRUCache(_CUSTOMERS_KEPT)
        self._requests: LRUCache[tuple[Pair, UUID | None, int, Layer], InForce] = LRUCache(_REQUESTS_KEPT)
        self._subjects: Mapping[Pair, _Subject] = {}
        self.base: Mapping[Pair, InForce] = {}
        self.prepare(catalogue)()

    def prepare(self, catalogue: Catalogue) -> Callable[[], None]:
        """Builds every guard of `catalogue`; what comes back puts them in force. Raises PolicyUnguardedError."""
        served = [(policy, robot) for policy in catalogue.everything() for robot in policy.manifest.robots]
        for policy, robot in served:
            if robot not in self.profiles:
                why = f"there is no safety profile for robot '{robot}' ({', '.join(self.profiles)})"
                raise PolicyUnguardedError(policy.model, why)
        subjects = {(policy.model, robot): _subject_of(policy, robot) for policy, robot in served}
        base = {pair: self._base(pair, subject) for pair, subject in subjects.items()}

        def put_in_force() -> None:
            self._subjects, self.base = subjects, base
            self._customers.clear()
            self._requests.clear()

        return put_in_force

    def of(
        self, policy: ServedPolicy, robot: str, *, customer_id: UUID, stored: CustomerSafety | None, asked: LimitFields | None
    ) -> InForce:
        """The guard for this policy on this robot under these layers. Raises invalid_safety naming the field."""
        pair = policy.model, robot
        if asked is not None:
            layer = layer_of(asked, name="request", path="safety")
            if layer != _NO_LAYER:
                return self._of_request(pair, customer_id, stored, layer)
        return self.base[pair] if stored is None else self._of_customer(pair, customer_id, stored)

    def _of_customer(self, pair: Pair, customer_id: UUID, stored: CustomerSafety) -> InForce:
        key = pair, customer_id, stored.version
        found = self._customers.get(key)
        if found is None:
            found = self._customers[key] = self._armed(self._subjects[pair], stored, _DECODER.decode(stored.document), None)
        return found

    def _of_request(self, pair: Pair, customer_id: UUID, stored: CustomerSafety | None, layer: Layer) -> InForce:
        owner, version = (None, 0) if stored is None else (customer_id, stored.version)
        key = pair, owner, version, layer
        found = self._requests.get(key)
        if found is None:
            settings = _NOTHING if stored is None else _DECODER.decode(stored.document)
            found = self._requests[key] = self._armed(self._subjects[pair], stored, settings, layer)
        return found

    def of_space(self, space: ActionSpace, robot: str, *, stored: CustomerSafety | None, asked: LimitFields | None) -> InForce:
        """A guard for actions of no policy served here, built anew. Raises invalid_safety."""
        layer = None if asked is None else layer_of(asked, name="request", path="safety")
        settings = _NOTHING if stored is None else _DECODER.decode(stored.document)
        return self._armed(_Subject(space, robot), stored, settings, layer)

    def _base(self, pair: Pair, subject: "_Subject") -> InForce:
        try:
            return self._armed(subject, None, _NOTHING, None)
        except UnsupportedActionSpaceError as error:
            raise PolicyUnguardedError(pair[0], f"on {pair[1]}: {error}") from None

    def _armed(self, subject: "_Subject", stored: CustomerSafety | None, settings: Settings, asked: Layer | None) -> InForce:
        preset = self._preset if stored is None or stored.preset is None else Preset(stored.preset)
        profile = self.profiles[subject.robot]
        policy = base_policy(profile, preset)
        with naming("safety.settings"):
            for layer in self._standing_layers(subject, stored, settings):
                if layer.thresholds is None or policy.thresholds is None:
                    policy = layered(policy, layer, is_strict=False)
        if asked is not None:
            with naming("safety"):
                policy = layered(policy, asked)
        return InForce(
            guard=Guard(profile, preset, subject.space, policy=policy),
            columns=subject.columns.fitting(profile),
            instructions=InstructionCheck(policy.instruction, self._deny_list) if policy.instruction else None,
            is_rejection_an_error="error" in {settings.on_reject, self._deployment.on_reject},
            policy=policy,
        )

    def _standing_layers(self, subject: "_Subject", stored: CustomerSafety | None, settings: Settings) -> tuple[Layer, ...]:
        owner = "customer" if stored is None else f"customer@{stored.version}"
        robot, policy = subject.robot, subject.policy
        return (
            *stored_layers(settings, robot, name=owner, policy=policy, path="safety.settings"),
            *stored_layers(self._deployment, robot, name="deployment", policy=policy, path=""),
        )


@dataclass(frozen=True, slots=True)
class _Subject:
    """What a guard is for."""

    space: ActionSpace
    robot: str
    policy: str | None = None
    columns: StateColumns = _NO_COLUMNS


_NO_LAYER = Layer(name="request")


def stored_layers(settings: Settings, robot: str, *, name: str, policy: str | None, path: str) -> tuple[Layer, ...]:
    """The layers of these settings that concern this robot, widest first. Raises invalid_safety."""
    layers = []
    if settings.limits is not None:
        layers.append(layer_of(settings.limits, name=name, path=f"{path}.limits"))
    own = (settings.robots or {}).get(robot)
    if own is not None:
        layers.append(layer_of(own, name=name, path=f"{path}.robots.{robot}"))
    words = None if settings.instruction is None else instruction_of(settings.instruction, path=f"{path}.instruction")
    fitted = _fitted(settings, robot, policy, path)
    if words is not None or fitted is not None:
        layers.append(Layer(name=name, instruction=words, thresholds=fitted))
    return tuple(layers)


def _fitted(settings: Settings, robot: str, policy: str | None, path: str) -> Thresholds | None:
    found = thresholds_of(settings, path=path)
    return next((one for one in found if (one.policy, one.robot_type) == (policy, robot)), None)


def check_settings(settings: Settings, profiles: Mapping[str, RobotProfile], preset: Preset, *, path: str) -> None:
    """Whether these settings can be a layer at all: nothing contradicts itself, nothing would loosen. Raises invalid_safety.

    What holds for all robots must tighten, or at least fit, one of them; where a robot is stricter already, the stricter counts.
    """
    for robot, own in (settings.robots or {}).items():
        if robot not in profiles:
            raise ApiError("invalid_safety", f"There is no robot {robot!r}.", param=f"{path}.robots.{robot}".lstrip("."))
        with naming(f"{path}.robots.{robot}"):
            layered(
                base_policy(profiles[robot], preset),
                layer_of(own, name="settings", path=f"{path}.robots.{robot}"),
                is_strict=True,
            )
    if settings.instruction is not None:
        instruction_of(settings.instruction, path=f"{path}.instruction")
    thresholds_of(settings, path=path)
    if settings.limits is not None and profiles:
        _check_for_all(settings.limits, profiles, preset, f"{path}.limits")


def _check_for_all(limits: LimitFields, profiles: Mapping[str, RobotProfile], preset: Preset, path: str) -> None:
    layer = layer_of(limits, name="settings", path=path)
    faults: list[ApiError] = []
    for profile in profiles.values():
        try:
            with naming(path):
                layered(base_policy(profile, preset), layer, is_strict=True)
        except ApiError as fault:
            faults.append(fault)
    if len(faults) == len(profiles):
        raise faults[0]


def _subject_of(policy: ServedPolicy, robot: str) -> _Subject:
    return _Subject(_servable_space(policy), robot, policy.name, columns_of(policy.manifest))


def _servable_space(policy: ServedPolicy) -> ActionSpace:
    try:
        return action_space_of(policy.manifest.action)
    except UnsupportedActionSpaceError as error:
        raise PolicyUnguardedError(policy.model, str(error)) from None


def action_space_of(action: Action) -> ActionSpace:
    """The manifest's facts in the guard's words; both sides use the same strings."""
    return ActionSpace(
        kind=ActionKind(action.kind.value),
        names=action.names,
        units=action.units,
        control_hz=action.control_hz,
        gripper_polarity=None if action.gripper_polarity is None else GripperPolarity(action.gripper_polarity.value),
        frame=action.frame,
        training_range=_training_range(action),
    )


def _training_range(action: Action) -> tuple[tuple[float, float], ...] | None:
    """The percentiles of what it was trained on. Not known where it was trained on several kinds of data, or scaled otherwise."""
    if len(action.statistics) != 1:
        return None
    (found,) = action.statistics.values()
    if not isinstance(found, Bounds) or found.scheme != "bounds_q99":
        return None
    return tuple(zip(found.low, found.high, strict=True))
