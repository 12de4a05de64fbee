"""Who may set which limit: profile → customer → deployment → request. Each layer may only tighten; `layered` makes the result.

Pure: stores nothing and knows no customer. The control plane keeps layers, asks `layered` and builds a `Guard` with the answer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from safety.calibration import Thresholds
from safety.instruction import InstructionPolicy
from safety.robot import STEP_MIN_SHARE, Limits, Preset, RobotProfile, limits_for, workspace_of
from safety.rules.names import CAN_WARN, MAY_BE_DISABLED, full_name
from safety.workspace import Box, EmptyWorkspaceError, HalfSpace, Workspace

MIN_PREFIX = 2
FASTEST_MIN = 1e-6  # m/s or rad/s, and ms: below it a limit cannot be told from a standstill, and value ÷ limit overflows
WIDTH_MIN = 1e-3  # rad, m or the gripper's share: what a range must leave


class LayerError(Exception):
    """A layer would loosen what is above it, contradicts itself, or leaves nothing; `field` says where."""

    def __init__(self, layer: str, field: str, fault: str) -> None:
        self.layer = layer
        self.field = field
        self.fault = fault
        super().__init__(f"{layer}: {field}: {fault}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What one customer, deployment or request asks for. None or empty leaves what is above.

    Speeds as in `Limits`; `joint_*` one number per joint of one arm. `workspace` replaces nothing: it is cut with the box above.
    """

    name: str  # "org:acme@3", shown in the verdict's profile
    linear_speed_m_per_s: float | None = None
    angular_speed_rad_per_s: float | None = None
    joint_speed_rad_per_s: tuple[float, ...] | None = None
    joint_min_rad: tuple[float, ...] | None = None
    joint_max_rad: tuple[float, ...] | None = None
    gripper_range: tuple[float, float] | None = None
    gripper_step_max: float | None = None
    staleness_max_ms: float | None = None
    workspace: Box | None = None
    half_spaces: tuple[HalfSpace, ...] = ()
    keep_outs: tuple[Box, ...] = ()
    surfaces: tuple[HalfSpace, ...] = ()
    min_prefix: int | None = None
    required_rules: frozenset[str] = frozenset()
    refuse_on_warning: frozenset[str] = frozenset()
    disabled_rules: frozenset[str] = frozenset()
    instruction: InstructionPolicy | None = None
    thresholds: Thresholds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardPolicy:
    """The limits and choices in force for a request: hashable, so that a guard per policy can be kept."""

    limits: Limits
    workspace: Workspace
    staleness_max_ms: float | None = None
    min_prefix: int = MIN_PREFIX
    required_rules: frozenset[str] = frozenset()
    refuse_on_warning: frozenset[str] = frozenset()
    disabled_rules: frozenset[str] = frozenset()
    instruction: tuple[InstructionPolicy, ...] = ()  # an instruction must satisfy every one
    thresholds: Thresholds | None = None
    layers: tuple[str, ...] = ()


def base_policy(profile: RobotProfile, preset: Preset) -> GuardPolicy:
    """What holds before any layer: the preset's limits of the robot, and its default workspace."""
    return GuardPolicy(limits=limits_for(profile, preset), workspace=workspace_of(profile))


def layered(base: GuardPolicy, *layers: Layer, is_strict: bool = True) -> GuardPolicy:
    """`base` (of `base_policy`) after every layer, outermost first: customer, deployment, request.

    Raises LayerError naming what would loosen. With `is_strict=False`, for stored layers whose parent was tightened later, the
    stricter of both counts instead; contradictions still raise.
    """
    policy = base
    for layer in layers:
        policy = _tightened(policy, layer, is_strict=is_strict)
    return policy


def _tightened(policy: GuardPolicy, layer: Layer, *, is_strict: bool) -> GuardPolicy:
    step = _Step(layer.name, is_strict)
    _check_rules(policy, layer)
    if layer.min_prefix is not None and layer.min_prefix < 1:
        raise LayerError(layer.name, "min_prefix", "1 or more is needed")
    prefix = step.number("min_prefix", layer.min_prefix, policy.min_prefix, stricter=max)
    if layer.thresholds is not None and policy.thresholds is not None:
        raise LayerError(layer.name, "thresholds", "a layer above has set them")
    return replace(
        policy,
        limits=_limits(policy.limits, layer, step),
        workspace=_workspace(policy.workspace, layer, step),
        staleness_max_ms=step.number("staleness_max_ms", _positive(layer, "staleness_max_ms"), policy.staleness_max_ms),
        min_prefix=policy.min_prefix if prefix is None else int(prefix),
        required_rules=policy.required_rules | {_rule(layer, "required_rules", name) for name in layer.required_rules},
        refuse_on_warning=policy.refuse_on_warning
        | {_rule(layer, "refuse_on_warning", name) for name in layer.refuse_on_warning},
        disabled_rules=policy.disabled_rules | {_rule(layer, "disabled_rules", name) for name in layer.disabled_rules},
        instruction=policy.instruction if layer.instruction is None else (*policy.instruction, layer.instruction),
        thresholds=layer.thresholds or policy.thresholds,
        layers=(*policy.layers, layer.name),
    )


def _rule(layer: Layer, field: str, name: str) -> str:
    found = full_name(name)
    if found is None:
        raise LayerError(layer.name, field, f"{name!r} is no rule")
    return found


def _check_rules(policy: GuardPolicy, layer: Layer) -> None:
    """Nothing is switched off that could refuse or change a motion, or that somebody relies on."""
    relied_on = policy.required_rules | policy.refuse_on_warning
    relied_on |= {_rule(layer, "required_rules", name) for name in layer.required_rules}
    relied_on |= {_rule(layer, "refuse_on_warning", name) for name in layer.refuse_on_warning}
    for name in sorted(layer.disabled_rules):
        rule = _rule(layer, "disabled_rules", name)
        if rule not in MAY_BE_DISABLED:
            raise LayerError(layer.name, "disabled_rules", f"{rule} can refuse or change a motion")
        if rule in relied_on:
            raise LayerError(layer.name, "disabled_rules", f"{rule} is required here or above")
    if switched_off := sorted(relied_on & policy.disabled_rules):
        raise LayerError(layer.name, "required_rules", f"{switched_off[0]} is switched off above")
    for name in sorted(layer.refuse_on_warning):
        if _rule(layer, "refuse_on_warning", name) not in CAN_WARN:
            raise LayerError(layer.name, "refuse_on_warning", f"{name} never warns")


@dataclass(frozen=True, slots=True)
class _Step:
    """One layer being applied: refuses, or passes over, what would loosen."""

    layer: str
    is_strict: bool

    def number(
        self, field: str, wanted: float | None, above: float | None, *, stricter: Callable[[float, float], float] = min
    ) -> float | None:
        if wanted is None or above is None:
            return above if wanted is None else float(wanted)
        if self.is_strict and stricter(wanted, above) != wanted:
            raise LayerError(self.layer, field, f"{wanted:g} is looser than {above:g} above")
        return float(stricter(wanted, above))

    def numbers(
        self,
        field: str,
        wanted: tuple[float, ...] | None,
        above: tuple[float, ...] | None,
        *,
        stricter: Callable[[float, float], float] = min,
    ) -> tuple[float, ...] | None:
        if wanted is None or not above:
            if wanted is not None:
                raise LayerError(self.layer, field, "this robot has no such limits to tighten")
            return above
        if len(wanted) != len(above):
            raise LayerError(self.layer, field, f"{len(wanted)} numbers for {len(above)} joints")
        ends = (
            self.number(f"{field}[{index}]", one, other, stricter=stricter)
            for index, (one, other) in enumerate(zip(wanted, above, strict=True))
        )
        return tuple(end for end in ends if end is not None)


def _positive(layer: Layer, field: str) -> float | None:
    """The layer's number, unless it is none that a limit can be."""
    value: float | None = getattr(layer, field)
    if value is not None and not (math.isfinite(value) and value >= FASTEST_MIN):
        raise LayerError(layer.name, field, f"{value} is no limit; {FASTEST_MIN:g} or more is needed")
    return value


def _limits(above: Limits, layer: Layer, step: _Step) -> Limits:
    for field in ("joint_speed_rad_per_s", "joint_min_rad", "joint_max_rad", "gripper_range"):
        _check_numbers(layer, field, is_speed=field == "joint_speed_rad_per_s")
    linear, angular, gripper_step = (
        step.number(field, _positive(layer, field), getattr(above, field))
        for field in ("linear_speed_m_per_s", "angular_speed_rad_per_s", "gripper_step_max")
    )
    lowest = step.numbers("joint_min_rad", layer.joint_min_rad, above.joint_min_rad, stricter=max) or ()
    highest = step.numbers("joint_max_rad", layer.joint_max_rad, above.joint_max_rad) or ()
    for index, (low, high) in enumerate(zip(lowest, highest, strict=True)):
        if not high - low >= WIDTH_MIN:
            raise LayerError(layer.name, f"joint_max_rad[{index}]", f"{high:g} leaves nothing above joint_min_rad {low:g}")
    low, high = gripper = _gripper_range(above, layer, step)
    if gripper_step is not None and gripper_step < STEP_MIN_SHARE * (high - low):
        raise LayerError(layer.name, "gripper_step_max", "smaller than a thousandth of the range, so float32 could not hold it")
    return replace(
        above,
        linear_speed_m_per_s=linear,
        angular_speed_rad_per_s=angular,
        joint_speed_rad_per_s=step.numbers("joint_speed_rad_per_s", layer.joint_speed_rad_per_s, above.joint_speed_rad_per_s)
        or (),
        joint_min_rad=lowest,
        joint_max_rad=highest,
        gripper_range=gripper,
        gripper_step_max=gripper_step,
    )


def _check_numbers(layer: Layer, field: str, *, is_speed: bool) -> None:
    values: tuple[float, ...] | None = getattr(layer, field)
    for index, value in enumerate(values or ()):
        if not math.isfinite(value) or (is_speed and value < FASTEST_MIN):
            raise LayerError(layer.name, f"{field}[{index}]", f"{value} is no limit")


def _gripper_range(above: Limits, layer: Layer, step: _Step) -> tuple[float, float]:
    if layer.gripper_range is None:
        return above.gripper_range
    low = step.number("gripper_range[0]", layer.gripper_range[0], above.gripper_range[0], stricter=max)
    high = step.number("gripper_range[1]", layer.gripper_range[1], above.gripper_range[1])
    if low is None or high is None or not high - low >= WIDTH_MIN:
        raise LayerError(layer.name, "gripper_range", "leaves nothing")
    return low, high


def _workspace(above: Workspace, layer: Layer, step: _Step) -> Workspace:
    return Workspace(
        box=_box(above.box, layer, step),
        half_spaces=(*above.half_spaces, *layer.half_spaces),
        keep_outs=(*above.keep_outs, *layer.keep_outs),
        surfaces=(*above.surfaces, *layer.surfaces),
    )


def _box(above: Box | None, layer: Layer, step: _Step) -> Box | None:
    wanted = layer.workspace
    if wanted is None or above is None:
        return above if wanted is None else wanted
    for axis, name in enumerate("xyz"):
        if math.isfinite(wanted.low_m[axis]):
            step.number(f"workspace.low_m.{name}", wanted.low_m[axis], above.low_m[axis], stricter=max)
        if math.isfinite(wanted.high_m[axis]):
            step.number(f"workspace.high_m.{name}", wanted.high_m[axis], above.high_m[axis])
    try:
        return above.cut_with(wanted)
    except EmptyWorkspaceError:
        raise LayerError(layer.name, "workspace", "leaves nothing of the box above") from None
