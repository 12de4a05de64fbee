"""What a manifest needs and a LeRobot checkpoint may not say: names, units, rate, robot, licence. Asked for, never guessed.

Names and units stand in `robot.json`, which the operator writes into the checkpoint's folder; the rest comes from the
checkpoint's own files where they say it, else from the command's options. A missing fact is a CheckpointError that says where to
give it.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from export.contract.facts import Action, ActionKind, Camera, GripperPolarity, ResizeRule, State
from export.contract.statistics import Bounds, Fact, MeanStd, NonEmpty, PositiveInt, Statistics
from export.policies.adapter import CheckpointError, CheckpointOptions
from export.policies.lerobot.layout import CONFIG_FILE, TRAINING_FILE, FeatureType, Settings, read_json
from export.policies.lerobot.named import ACTION_TENSOR, STATE_TENSOR
from export.policies.lerobot.normalisation import Normalisation, Scaling

ROBOT_FILE = "robot.json"
_UNNAMED = "checkpoint"  # the un-normalisation key where no data set is named


class Vector(Fact):
    """Names and units of a vector, in its order."""

    names: tuple[NonEmpty, ...]
    units: tuple[NonEmpty, ...]


class RobotAction(Vector):
    """What else an action's numbers need to mean something."""

    frame: NonEmpty
    gripper_polarity: GripperPolarity | None


class Robot(Fact):
    """The whole of `robot.json`: a vector per STATE, ENV and ACTION feature of the policy, and which cameras the robot has.

    `cameras` are (width, height) by name, for a policy that takes pictures of any size and leave to send fewer of them.
    """

    cameras: dict[NonEmpty, tuple[PositiveInt, PositiveInt]] | None = None
    state: Vector | None = None
    environment: Vector | None = None
    action: RobotAction


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything about one checkpoint that is no network."""

    options: CheckpointOptions
    settings: Settings
    scalings: Normalisation
    robot: Robot
    kind: ActionKind
    control_hz: float
    licence: str
    origin: str
    key: str  # the one set of statistics

    def cameras(self) -> tuple[Camera, ...]:
        """In the network's order, under the robot's names; any other size is stretched, this one passes unchanged."""
        return tuple(self.cameras_by_key().values())

    def cameras_by_key(self) -> dict[str, Camera]:
        """By the network's own name for them."""
        found: dict[str, Camera] = {}
        tensors: set[str] = set()
        for key, name in camera_names(self.settings, self.scalings).items():
            if self.robot.cameras is not None and name not in self.robot.cameras:
                continue
            _, height, width = self.settings.pictures[key].shape
            if self.robot.cameras is not None:
                width, height = self.robot.cameras[name]
            tensor = _tensor_name(name)
            while tensor in tensors:  # "left-wrist" beside "left_wrist"
                tensor += "_"
            tensors.add(tensor)
            found[key] = Camera(name=name, is_required=True, width=width, height=height, resize=ResizeRule.NAIVE, tensor=tensor)
        return found

    def state(self) -> State | None:
        """Robot state, then the environment's, as one vector on the wire."""
        parts = [one for one in (self._vector(FeatureType.STATE), self._vector(FeatureType.ENV)) if one is not None]
        if not parts:
            return None
        return State(
            names=tuple(name for vector, _ in parts for name in vector.names),
            units=tuple(unit for vector, _ in parts for unit in vector.units),
            is_required=True,
            tensor=STATE_TENSOR,
            statistics=self._keyed(_joined([scaling.statistics() for _, scaling in parts])),
        )

    def action(self) -> Action:
        """The chunk."""
        statistics = self._keyed(self.scalings.action.statistics())
        return Action(
            kind=self.kind,
            names=self.robot.action.names,
            units=self.robot.action.units,
            frame=self.robot.action.frame,
            gripper_polarity=self.robot.action.gripper_polarity,
            horizon=self.settings.chunk_size,
            control_hz=self.control_hz,
            tensor=ACTION_TENSOR,
            unnorm_keys=tuple(statistics),
            statistics=statistics,
        )

    def _vector(self, kind: FeatureType) -> tuple[Vector, Scaling] | None:
        found = self.settings.vector(kind)
        if found is None:
            return None
        vector = self.robot.state if kind is FeatureType.STATE else self.robot.environment
        return None if vector is None else (vector, self.scalings.inputs[found[0]])

    def _keyed(self, statistics: Statistics | None) -> dict[str, Statistics]:
        is_described = statistics is not None and self.scalings.action.statistics() is not None
        return {self.key: statistics} if is_described and statistics is not None else {}


def camera_names(settings: Settings, scalings: Normalisation) -> dict[str, str]:
    """The robot's name for each camera, by the network's."""
    said = {key: scalings.renamed.get(key, key) for key in settings.pictures}
    return {key: name.removeprefix("observation.").removeprefix("images.") for key, name in said.items()}


def gather(options: CheckpointOptions, settings: Settings, scalings: Normalisation, *, are_cameras_known: bool) -> Facts:
    """All facts, or a CheckpointError that says where the missing one is to be given.

    `are_cameras_known`: whether `config.json` says truly which pictures of which size the network saw.
    """
    folder = options.checkpoint
    training = read_json(folder / TRAINING_FILE) if (folder / TRAINING_FILE).exists() else {}
    config = read_json(folder / CONFIG_FILE)
    if not options.robots:
        raise CheckpointError("a checkpoint does not say which robot it moves: give --robot")
    if options.kind is None:
        raise CheckpointError("a LeRobot checkpoint does not say what its actions are: give --kind, for example joint_abs")
    fps = _inside(training, "env", "fps")
    control_hz = options.control_hz or (float(fps) if isinstance(fps, (int, float)) else None)
    if control_hz is None:
        raise CheckpointError("the checkpoint does not say how many actions a second it was trained for: give --control-hz")
    licence = options.licence or config.get("license")
    if not licence:
        raise CheckpointError(f"{folder / CONFIG_FILE} names no licence: give --licence")
    key = str(_inside(training, "dataset", "repo_id") or _UNNAMED)
    if options.unnorm_keys not in {None, (key,)}:
        raise CheckpointError(f"a LeRobot checkpoint has one set of statistics, here {key!r}: leave --unnorm-key out")
    return Facts(
        options=options,
        settings=settings,
        scalings=scalings,
        robot=_robot(folder, settings, None if are_cameras_known else tuple(camera_names(settings, scalings).values())),
        kind=options.kind,
        control_hz=control_hz,
        licence=str(licence),
        origin=str(config.get("repo_id") or folder.resolve().name),
        key=key,
    )


def _robot(folder: Path, settings: Settings, cameras: tuple[str, ...] | None) -> Robot:
    """`cameras` are those that it may choose from, None where there is no choice."""
    path = folder / ROBOT_FILE
    wanted = {
        "state": settings.vector(FeatureType.STATE),
        "environment": settings.vector(FeatureType.ENV),
        "action": (ACTION_TENSOR, settings.action_size),
    }
    sizes = {name: one[1] for name, one in wanted.items() if one is not None}
    if not path.exists():
        listed = ", ".join(f"{name} ({size})" for name, size in sizes.items())
        raise CheckpointError(
            f"{path}: not there; a LeRobot checkpoint names no joints: write names and units of {listed} into it"
        )
    try:
        robot = Robot.model_validate_json(path.read_bytes())
    except ValidationError as error:
        fault = error.errors()[0]
        raise CheckpointError(f"{path}: {'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}") from None
    _refuse_cameras(path, robot, cameras)
    for name in ("state", "environment", "action"):
        vector: Vector | None = getattr(robot, name)
        found, size = (0, 0) if vector is None else (len(vector.names), len(vector.units)), sizes.get(name, 0)
        if found != (size, size):
            raise CheckpointError(f"{path}: {name}: {found[0]} names and {found[1]} units, the policy has {size} numbers there")
    return robot


def _refuse_cameras(path: Path, robot: Robot, known: tuple[str, ...] | None) -> None:
    if known is None:
        if robot.cameras is not None:
            raise CheckpointError(f"{path}: cameras: {CONFIG_FILE} says them: leave them out")
        return
    listed = ", ".join(known)
    if not robot.cameras:
        example = f'"cameras": {{"{known[0]}": [640, 480]}}'
        asked = f"the policy takes any of {listed} at any size: write which the robot has, with width and height: {example}"
        raise CheckpointError(f"{path}: cameras: {asked}")
    unknown = sorted(robot.cameras.keys() - set(known))
    if unknown:
        raise CheckpointError(f"{path}: cameras: {unknown[0]!r} is none of {listed}")


def _inside(found: object, *keys: str) -> Any:
    """What lies under these keys, None where the way ends."""
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _tensor_name(camera: str) -> str:
    """A name that Python, ONNX and Triton all take."""
    name = re.sub(r"\W", "_", camera)
    return name if name == "image" else f"image_{name}"


def _joined(parts: list[Statistics | None]) -> Statistics | None:
    """Of several vectors as one, where they are scaled alike."""
    match parts:
        case [only]:
            return only
        case [MeanStd() as first, MeanStd() as second] if first.epsilon == second.epsilon:
            return first.model_copy(update={"mean": first.mean + second.mean, "std": first.std + second.std})
        case [Bounds() as first, Bounds() as second] if first.scheme == second.scheme:
            both = {name: getattr(first, name) + getattr(second, name) for name in ("low", "high", "mask")}
            return first.model_copy(update=both)
        case _:
            return None
