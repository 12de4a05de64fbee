"""What training fixed and no weight remembers: cameras, chunk, bounds, crop, rotation, the meaning of the numbers.

The original reads these from substrings of its command line. Here the data sets' names and the shapes of head and projector say
which platform a checkpoint is of, both must agree, and `openvla_oft.json` beside the weights states what differs or is not known.
It reads no weights. Called by `policy`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from export.contract.facts import ActionKind, GripperPolarity
from export.policies.adapter import CheckpointError

FILE = "openvla_oft.json"
TRAINED_CROP = 0.9  # the area that random crops kept in training, and so the centre crop
MAX_CAMERAS = 4
Scheme = Literal["bounds_q99", "bounds"]
Platform = Literal["libero", "aloha", "bridge"]
_Count = Annotated[int, Field(gt=0)]
_Names = tuple[Annotated[str, Field(min_length=1)], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Names and units of a vector, in its order."""

    names: tuple[str, ...]
    units: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One way to train.

    `uses_proprio` None: with and without are usual. `scale` multiplies the actions of the data set into `action.units`.
    """

    robots: tuple[str, ...]
    cameras: tuple[str, ...]
    chunk: int
    scheme: Scheme
    uses_proprio: bool | None
    crop_area: float | None
    rotate_180: bool
    kind: ActionKind
    control_hz: float | None
    frame: str
    gripper: GripperPolarity | None
    action: Numbers
    state: Numbers
    scale: tuple[float, ...] | None
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """What the weights do say: numbers per action, and per robot state where there is a projector."""

    action: int
    proprio: int | None


class Stated(BaseModel):
    """`openvla_oft.json`: the names of the training command's flags where it has them. Every field is optional."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    platform: Platform | None = None
    num_images_in_input: Annotated[int, Field(ge=1, le=MAX_CAMERAS)] | None = None
    num_actions_chunk: _Count | None = None
    normalization: Scheme | None = None
    use_proprio: bool | None = None
    center_crop: bool | None = None
    rotate_180: bool | None = None
    cameras: Annotated[_Names, Field(min_length=1, max_length=MAX_CAMERAS)] | None = None
    action_names: _Names | None = None
    action_units: _Names | None = None
    action_scale: tuple[float, ...] | None = None
    state_names: _Names | None = None
    state_units: _Names | None = None
    kind: ActionKind | None = None
    frame: str | None = None


_CAMERAS = {1: ("primary",), 2: ("primary", "wrist"), 3: ("primary", "left_wrist", "right_wrist")}
_ARM = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
_ARMS = Numbers(
    names=tuple(f"{side}_{joint}" for side in ("left", "right") for joint in _ARM), units=(("rad",) * 6 + ("fraction",)) * 2
)
_DELTA = Numbers(
    names=("dx", "dy", "dz", "drot_x", "drot_y", "drot_z", "gripper"), units=("m",) * 3 + ("rad",) * 3 + ("fraction",)
)
LIBERO = Recipe(
    robots=("franka_panda",),
    cameras=_CAMERAS[2],
    chunk=8,
    scheme="bounds_q99",
    uses_proprio=True,
    crop_area=TRAINED_CROP,
    rotate_180=True,
    kind=ActionKind.EE_DELTA_ROTVEC,
    control_hz=20.0,
    frame="robot_base",
    gripper=GripperPolarity.ONE_IS_OPEN,
    action=_DELTA,
    state=Numbers(
        names=("x", "y", "z", "rot_x", "rot_y", "rot_z", "finger_left", "finger_right"),
        units=("m",) * 3 + ("rad",) * 3 + ("m",) * 2,
    ),
    scale=(0.05,) * 3 + (0.5,) * 3 + (1.0,),  # what 1 means to OSC_POSE, in m and rad
    note="Send the simulator's raw frames: they are turned here. OSC_POSE wants the deltas divided by 0.05 m and 0.5 rad. "
    "The gripper is 0 closed to 1 open; LIBERO's own wants sign(1 - 2·gripper).",
)
ALOHA = Recipe(
    robots=("aloha",),
    cameras=_CAMERAS[3],
    chunk=25,
    scheme="bounds",
    uses_proprio=True,
    crop_area=TRAINED_CROP,
    rotate_180=False,
    kind=ActionKind.JOINT_ABS,
    control_hz=25.0,
    frame="joints",
    gripper=GripperPolarity.ONE_IS_OPEN,
    action=_ARMS,
    state=_ARMS,
    scale=None,
    note="Absolute joint targets of both arms, each with a normalised gripper as its last number.",
)
BRIDGE = Recipe(
    robots=("widowx_250s",),  # as BridgeData names its arm
    cameras=_CAMERAS[1],
    chunk=5,
    scheme="bounds_q99",
    uses_proprio=None,
    crop_area=TRAINED_CROP,
    rotate_180=False,
    kind=ActionKind.EE_DELTA_EULER,
    control_hz=5.0,
    frame="robot_base",
    gripper=GripperPolarity.ONE_IS_OPEN,
    action=replace(_DELTA, names=("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")),
    state=Numbers(names=("x", "y", "z", "roll", "pitch", "yaw", "gripper"), units=("m",) * 3 + ("rad",) * 3 + ("fraction",)),
    scale=None,
    note="",
)
PLATFORMS: dict[Platform, Recipe] = {"libero": LIBERO, "aloha": ALOHA, "bridge": BRIDGE}


def read_recipe(folder: Path, shapes: Shapes, keys: tuple[str, ...], kind: ActionKind | None) -> Recipe:
    """The recipe of the checkpoint in `folder`; `kind` is the operator's word and counts above the file's.

    Raises CheckpointError for contradictions and for what must be stated.
    """
    stated = _stated(folder / FILE)
    stated = stated if kind is None else stated.model_copy(update={"kind": kind})
    recipe = _with_stated(_platform_recipe(folder, shapes, keys, stated), stated, folder)
    _refuse_contradictions(folder, recipe, shapes)
    return recipe


def _stated(path: Path) -> Stated:
    if not path.exists():
        return Stated()
    try:
        return Stated.model_validate_json(path.read_bytes())
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}" for fault in error.errors())
        raise CheckpointError(f"{path}: {faults}") from None


def _platform_recipe(folder: Path, shapes: Shapes, keys: tuple[str, ...], stated: Stated) -> Recipe:
    """By what is stated, else by the data sets' names, which must fit the shapes, else by the shapes alone."""
    if stated.platform is not None:
        return PLATFORMS[stated.platform]
    named: list[Platform] = [one for one in PLATFORMS if any(one in key.lower() for key in keys)]
    if len(named) > 1:
        raise CheckpointError(f'{folder}: its data sets {", ".join(keys)} are of several platforms; state "platform" in {FILE}')
    if named:
        return PLATFORMS[named[0]]
    shaped = [one for one in PLATFORMS if _has_shapes(PLATFORMS[one], shapes)]
    if len(shaped) != 1:
        raise CheckpointError(
            f"{folder}: {shapes.action} action and {shapes.proprio or 'no'} state numbers of {', '.join(keys)} fit "
            f'{" and ".join(shaped) or "no platform that is known"}; state "platform" and what differs from it in {FILE}'
        )
    return _unnamed(PLATFORMS[shaped[0]], shapes)


def _has_shapes(recipe: Recipe, shapes: Shapes) -> bool:
    return len(recipe.action.names) == shapes.action and shapes.proprio in (None, len(recipe.state.names))


def _unnamed(recipe: Recipe, shapes: Shapes) -> Recipe:
    """A robot of the operator's own, trained with a platform's constants: those hold, the simulator's peculiarities do not."""
    units = _DELTA.units if shapes.action == len(_DELTA.names) else recipe.action.units
    action = replace(recipe.action, units=units)
    return replace(recipe, robots=(), rotate_180=False, control_hz=None, action=action, scale=None, note="")


def _with_stated(recipe: Recipe, stated: Stated, folder: Path) -> Recipe:
    kind, names = stated.kind or recipe.kind, stated.action_names or recipe.action.names
    if _is_of_joints(kind) != _is_of_joints(recipe.kind) and None in (stated.action_names, stated.action_units):
        raise CheckpointError(
            f"{folder}: its numbers would be {kind}, but are called {', '.join(names)}; "
            f"state both action_names and action_units in {FILE}"
        )
    crop = {None: recipe.crop_area, True: TRAINED_CROP, False: None}[stated.center_crop]
    is_as_trained = stated.action_units not in (None, recipe.action.units) or kind is ActionKind.EE_ABS
    return replace(
        recipe,
        cameras=_cameras(recipe, stated, folder),
        chunk=stated.num_actions_chunk or recipe.chunk,
        scheme=stated.normalization or recipe.scheme,
        uses_proprio=recipe.uses_proprio if stated.use_proprio is None else stated.use_proprio,
        crop_area=crop,
        rotate_180=recipe.rotate_180 if stated.rotate_180 is None else stated.rotate_180,
        kind=kind,
        frame=stated.frame or recipe.frame,
        gripper=recipe.gripper if any("gripper" in name for name in names) else None,
        action=Numbers(names=names, units=stated.action_units or recipe.action.units),
        state=Numbers(names=stated.state_names or recipe.state.names, units=stated.state_units or recipe.state.units),
        scale=stated.action_scale or (None if is_as_trained else recipe.scale),
        note=recipe.note if stated.action_units is None else "",
    )


def _is_of_joints(kind: ActionKind) -> bool:
    return kind in (ActionKind.JOINT_ABS, ActionKind.JOINT_DELTA, ActionKind.JOINT_VEL)


def _cameras(recipe: Recipe, stated: Stated, folder: Path) -> tuple[str, ...]:
    count = stated.num_images_in_input or len(stated.cameras or recipe.cameras)
    names = stated.cameras or _CAMERAS.get(count)
    if names is None or len(names) != count or len(set(names)) != count:
        raise CheckpointError(f'{folder / FILE}: num_images_in_input is {count}; "cameras" must name as many, each once')
    return names


def _refuse_contradictions(folder: Path, recipe: Recipe, shapes: Shapes) -> None:
    if len(recipe.action.names) != shapes.action:
        raise CheckpointError(
            f"{folder}: the head answers {shapes.action} numbers a step, its recipe has {len(recipe.action.names)}; "
            f"it is of another robot, or state action_names and action_units in {FILE}"
        )
    if len(recipe.action.units) != shapes.action or len(recipe.scale or recipe.action.names) != shapes.action:
        raise CheckpointError(f"{folder / FILE}: action_units and action_scale must be as many as action_names, {shapes.action}")
    if shapes.proprio is None and recipe.uses_proprio:
        raise CheckpointError(
            f"{folder}: no proprio_projector--<step>_checkpoint.pt, but this recipe reads the robot's state; copy the file here, "
            f'or state "use_proprio": false in {FILE} if it was trained without'
        )
    if shapes.proprio is None:
        return
    if recipe.uses_proprio is False:
        raise CheckpointError(f'{folder / FILE}: "use_proprio" is false, but there is a proprio_projector; move one away')
    if len(recipe.state.names) != shapes.proprio or len(recipe.state.units) != shapes.proprio:
        raise CheckpointError(
            f"{folder}: the proprio projector takes {shapes.proprio} numbers, the state of its recipe has "
            f"{len(recipe.state.names)}; it is of another robot, or state state_names and state_units in {FILE}"
        )
