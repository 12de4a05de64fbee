"""Limits as people and programs write them: the `safety` object of a request, a customer's settings, a deployment's file.

One set of shapes for all three, strict and bounded; `layer_of` makes the pure value that `safety.layering` understands. Every
complaint is an ApiError `invalid_safety` that names the field. Knows no store and no robot.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

from msgspec import Meta, Struct

from control_plane.errors import ApiError
from safety.calibration import Thresholds, ThresholdsError, parse_thresholds
from safety.instruction import TEMPLATES_MAX, Category, InstructionMode, InstructionPolicy, InstructionPolicyError
from safety.layering import Layer, LayerError
from safety.workspace import Box, EmptyWorkspaceError, HalfSpace

# More is work for nothing, and all of it is compared with every motion.
SHAPES_MAX, JOINTS_MAX, RULES_MAX, ROBOTS_MAX, CALIBRATIONS_MAX = 32, 64, 64, 64, 8
TEXT_MAX, CALIBRATION_CHARS_MAX = 200, 8_000

Number = Annotated[float, Meta(ge=-1e6, le=1e6)]
Positive = Annotated[float, Meta(gt=0, le=1e6)]
Point = tuple[Number, Number, Number]
Ends = tuple[Number | None, Number | None, Number | None]
JointNumbers = Annotated[list[Number], Meta(min_length=1, max_length=JOINTS_MAX)]
RuleName = Annotated[str, Meta(min_length=1, max_length=64)]
RuleNames = Annotated[list[RuleName], Meta(max_length=RULES_MAX)]
Text = Annotated[str, Meta(min_length=1, max_length=TEXT_MAX)]
Texts = Annotated[list[Text], Meta(max_length=TEMPLATES_MAX)]
RobotName = Annotated[str, Meta(min_length=1, max_length=128)]
OnReject = Literal["answer", "error"]


class BoxFields(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, omit_defaults=True):
    """`null` for an end that stays open."""

    low_m: Ends
    high_m: Ends


class HalfSpaceFields(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """normal · p ≤ offset_m."""

    normal: Point
    offset_m: Number


Boxes = Annotated[list[BoxFields], Meta(max_length=SHAPES_MAX)]
HalfSpaces = Annotated[list[HalfSpaceFields], Meta(max_length=SHAPES_MAX)]


class LimitFields(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, omit_defaults=True):
    """What may be tightened, per robot. null is the same as leaving a field out."""

    linear_speed_m_per_s: Positive | None = None
    angular_speed_rad_per_s: Positive | None = None
    joint_speed_rad_per_s: JointNumbers | None = None
    joint_min_rad: JointNumbers | None = None
    joint_max_rad: JointNumbers | None = None
    gripper_range: tuple[Number, Number] | None = None
    gripper_step_max: Positive | None = None
    staleness_max_ms: Positive | None = None
    workspace: BoxFields | None = None
    half_spaces: HalfSpaces | None = None
    keep_outs: Boxes | None = None
    surfaces: HalfSpaces | None = None
    min_prefix: Annotated[int, Meta(ge=1, le=1000)] | None = None
    required_rules: RuleNames | None = None
    refuse_on_warning: RuleNames | None = None
    disabled_rules: RuleNames | None = None


class StateFields(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The robot's state for the guard alone, where the policy's own `state` does not tell it."""

    q: Annotated[list[Number], Meta(max_length=JOINTS_MAX)] | None = None
    ee_position: Annotated[list[Number], Meta(max_length=JOINTS_MAX)] | None = None
    gripper: Annotated[list[Number], Meta(max_length=8)] | None = None


class RequestSafety(LimitFields, forbid_unknown_fields=True, frozen=True, kw_only=True, omit_defaults=True):
    """The `safety` object of a request: tighter limits for this one, and what else the guard should know."""

    control_hz: Annotated[float, Meta(gt=0, le=1000)] | None = None
    state: StateFields | None = None


class InstructionFields(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, omit_defaults=True):
    """Which instructions may reach a policy at all."""

    mode: InstructionMode
    templates: Texts | None = None
    slots: Annotated[dict[Text, Texts], Meta(max_length=64)] | None = None
    off_categories: Annotated[list[Category], Meta(max_length=16)] | None = None


class Settings(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, omit_defaults=True):
    """One customer's settings, or those of the whole deployment. `limits` hold for every robot, `robots` for one each."""

    limits: LimitFields | None = None
    robots: Annotated[dict[RobotName, LimitFields], Meta(max_length=ROBOTS_MAX)] | None = None
    instruction: InstructionFields | None = None
    on_reject: OnReject | None = None
    calibrations: (
        Annotated[list[Annotated[str, Meta(max_length=CALIBRATION_CHARS_MAX)]], Meta(max_length=CALIBRATIONS_MAX)] | None
    ) = None  # reviewed files of `vlaapi safety calibrate`; an operator's to set

    @property
    def is_empty(self) -> bool:
        """True when nothing is set."""
        return self == Settings()


def layer_of(fields: LimitFields, *, name: str, path: str, thresholds: Thresholds | None = None) -> Layer:
    """The limits as `safety.layering` takes them. `path` is where they stood, for complaints. Raises invalid_safety."""
    return Layer(
        name=name,
        linear_speed_m_per_s=fields.linear_speed_m_per_s,
        angular_speed_rad_per_s=fields.angular_speed_rad_per_s,
        joint_speed_rad_per_s=_tuple(fields.joint_speed_rad_per_s),
        joint_min_rad=_tuple(fields.joint_min_rad),
        joint_max_rad=_tuple(fields.joint_max_rad),
        gripper_range=fields.gripper_range,
        gripper_step_max=fields.gripper_step_max,
        staleness_max_ms=fields.staleness_max_ms,
        workspace=None if fields.workspace is None else _box(fields.workspace, f"{path}.workspace"),
        half_spaces=_half_spaces(fields.half_spaces, f"{path}.half_spaces"),
        keep_outs=tuple(_box(box, f"{path}.keep_outs[{i}]") for i, box in enumerate(fields.keep_outs or ())),
        surfaces=_half_spaces(fields.surfaces, f"{path}.surfaces"),
        min_prefix=fields.min_prefix,
        required_rules=frozenset(fields.required_rules or ()),
        refuse_on_warning=frozenset(fields.refuse_on_warning or ()),
        disabled_rules=frozenset(fields.disabled_rules or ()),
        thresholds=thresholds,
    )


def instruction_of(fields: InstructionFields, *, path: str) -> InstructionPolicy:
    """Raises invalid_safety."""
    try:
        return InstructionPolicy(
            mode=fields.mode,
            templates=tuple(fields.templates or ()),
            slots=tuple((name, tuple(phrases)) for name, phrases in (fields.slots or {}).items()),
            off_categories=frozenset(fields.off_categories or ()),
        )
    except InstructionPolicyError as error:
        raise refusal(path, error.fault) from None


def thresholds_of(settings: Settings, *, path: str) -> tuple[Thresholds, ...]:
    """The reviewed calibrations. Raises invalid_safety."""
    found = []
    for index, text in enumerate(settings.calibrations or ()):
        try:
            found.append(parse_thresholds(text))
        except ThresholdsError as error:
            raise refusal(f"{path}.calibrations[{index}]", error.fault) from None
    return tuple(found)


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Turns a layer's complaint into ours; `path` is where the layer stood."""
    try:
        yield
    except LayerError as error:
        raise refusal(f"{path}.{error.field}", error.fault) from None


def refusal(param: str, fault: str) -> ApiError:
    """What is wrong with a limit, and where."""
    param = param.lstrip(".")[:200]
    return ApiError("invalid_safety", f"{param}: {fault}."[:300], param=param)


def _tuple(numbers: list[float] | None) -> tuple[float, ...] | None:
    return None if numbers is None else tuple(numbers)


def _box(fields: BoxFields, path: str) -> Box:
    low, high = ((tuple(open_end if end is None else end for end in ends)) for ends, open_end in _ends(fields))
    try:
        return Box(low_m=(low[0], low[1], low[2]), high_m=(high[0], high[1], high[2]))
    except EmptyWorkspaceError as error:
        raise refusal(path, str(error)) from None


def _ends(fields: BoxFields) -> tuple[tuple[Ends, float], tuple[Ends, float]]:
    return (fields.low_m, -math.inf), (fields.high_m, math.inf)


def _half_spaces(found: list[HalfSpaceFields] | None, path: str) -> tuple[HalfSpace, ...]:
    made = []
    for index, fields in enumerate(found or ()):
        try:
            made.append(HalfSpace(normal=fields.normal, offset_m=fields.offset_m))
        except EmptyWorkspaceError as error:
            raise refusal(f"{path}[{index}]", str(error)) from None
    return tuple(made)
