"""`vlaapi safety …`: a customer's layer of the action guard, its history, and calibration. Words and output only.

What happens is in `verbs.py` and `calibrate.py`; whatever these commands change is in the history with the person's user name.
"""

import getpass
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from control_plane.errors import ApiError
from control_plane.guarding.calibrate import Report, Task, run_task
from control_plane.guarding.deployment import load_robots
from control_plane.guarding.edits import SettingsEdit, edited, numbers_of
from control_plane.guarding.fields import InstructionFields, OnReject, Settings
from control_plane.guarding.verbs import (
    Change,
    Changed,
    Content,
    Stored,
    Wish,
    change_settings,
    list_changes,
    read_settings,
)
from control_plane.keys.terminal import AsJson, id_of, on_stores, print_json, print_lines, tell_if_unheard
from control_plane.settings import SettingsError, variable
from safety.calibration import ALPHA
from safety.profile import Preset, RobotProfile

commands = typer.Typer(help="Customers' limits of the action guard, and calibration.", no_args_is_help=True)

ROBOTS_DIR = variable("robots_dir")
_T = TypeVar("_T", Settings, InstructionFields)

Customer = Annotated[str, typer.Option("--customer", help="The customer's id, cus_….")]
RobotsDir = Annotated[
    Path | None,
    typer.Option("--robots-dir", envvar=ROBOTS_DIR, help="Folder with robot profiles of your own, as the service has it."),
]
_ONE_ROBOT = "Only for this robot type; else for all of them."


@commands.command("show")
def show(ctx: typer.Context, customer: Customer, as_json: AsJson = False) -> None:
    """What holds for a customer on top of the robots' profiles."""
    customer_id = id_of("customer", "cus", customer)
    _print(on_stores(ctx, lambda stores: read_settings(stores.engine, customer_id)), as_json=as_json)


@commands.command("set")
def set_(
    ctx: typer.Context,
    customer: Customer,
    file: Annotated[Path | None, typer.Option(help="TOML or JSON with the whole settings; replaces what was there.")] = None,
    robot: Annotated[str | None, typer.Option(help=_ONE_ROBOT)] = None,
    linear_speed: Annotated[float | None, typer.Option(help="m/s.")] = None,
    angular_speed: Annotated[float | None, typer.Option(help="rad/s.")] = None,
    workspace: Annotated[str | None, typer.Option(help="Box as x,y,z,x,y,z: low corner, high corner, in m.")] = None,
    require: Annotated[list[str] | None, typer.Option(help="A rule without which no motion is given. Repeatable.")] = None,
    disable: Annotated[list[str] | None, typer.Option(help="A rule that only warns, switched off. Repeatable.")] = None,
    on_reject: Annotated[str | None, typer.Option(help="answer (200) or error (422) for refused motions.")] = None,
    instruction: Annotated[str | None, typer.Option(help="off, deny_list, or a TOML or JSON file with an allow_list.")] = None,
    preset: Annotated[Preset | None, typer.Option(help="Speeds of the manufacturer instead of reduced ones.")] = None,
    calibration: Annotated[list[Path] | None, typer.Option(help="A reviewed file of `calibrate`. Repeatable.")] = None,
    robots_dir: RobotsDir = None,
    as_json: AsJson = False,
) -> None:
    """Change what is named; a limit that would loosen the robot's is refused."""
    edit = SettingsEdit(
        replacement=None if file is None else _converted(_table(file, "file"), Settings, "settings"),
        robot=robot,
        linear_speed_m_per_s=linear_speed,
        angular_speed_rad_per_s=angular_speed,
        workspace=None if workspace is None else numbers_of(workspace, count=6, param="workspace"),
        required_rules=require,
        disabled_rules=disable,
        on_reject=None if on_reject is None else _on_reject(on_reject),
        instruction=None if instruction is None else _instruction(instruction),
        preset=preset,
        calibrations=None if calibration is None else [_text(path) for path in calibration],
    )
    _change(ctx, customer, edit, robots_dir, as_json=as_json)


@commands.command("clear")
def clear(ctx: typer.Context, customer: Customer, as_json: AsJson = False) -> None:
    """Take everything of the customer's own away; the robots' profiles hold again."""
    _change(ctx, customer, None, None, as_json=as_json)


@commands.command("audit")
def audit(
    ctx: typer.Context,
    customer: Customer,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Who changed the settings, when, from what to what."""
    customer_id = id_of("customer", "cus", customer)
    changes = on_stores(ctx, lambda stores: list_changes(stores.engine, customer_id, limit=limit))
    if as_json:
        print_json({"changes": [_change_as_json(change) for change in changes]})
        return
    for change in changes:
        typer.echo(f"{change.version:>4}  {change.changed_at:%Y-%m-%d %H:%M:%S} UTC  {change.changed_by}")
        typer.echo(f"      before {msgspec.json.encode(change.before).decode()}")
        typer.echo(f"      after  {msgspec.json.encode(change.after).decode()}")


@commands.command("calibrate")
def calibrate_(
    rollouts: Annotated[Path, typer.Option(help="Folder of episodes (.npz or .json); docs/CALIBRATION.md has the format.")],
    out: Annotated[Path, typer.Option(help="The thresholds file to review.")],
    policy: Annotated[Path, typer.Option(help="The policy's folder in the model repository.")],
    robot: Annotated[str | None, typer.Option(help="The robot type; the policy's first one if left out.")] = None,
    alpha: Annotated[float, typer.Option(help="Share of successful episodes that may see a false alarm.")] = ALPHA,
    held_out: Annotated[float, typer.Option(help="Share of the episodes kept back to measure false alarms.")] = 1 / 3,
    robots_dir: RobotsDir = None,
    as_json: AsJson = False,
) -> None:
    """Fit the thresholds of the informational scores on successful episodes and measure them on others."""
    task = Task(
        rollouts=rollouts,
        out=out,
        policy_folder=policy,
        robot=robot,
        profiles=_robots(robots_dir),
        alpha=alpha,
        held_out=held_out,
    )
    report = run_task(task)
    if as_json:
        print_json(report.as_json())
    else:
        print_lines(_report_lines(report))


def _report_lines(report: Report) -> dict[str, object]:
    lines: dict[str, object] = {
        "episodes": f"{report.fitted} fitted, {report.held_out} held out, {report.failed} unsuccessful left out",
        "written": f"{report.out} (unused until reviewed_by and reviewed_on are filled in)",
    }
    for score in report.scores:
        bound = f"at most {report.alpha:.0%} expected"
        lines[score.name] = (
            f"threshold {score.threshold:.4g}, {score.alarms}/{score.held_out} held-out episodes with an alarm ({bound})"
            if score.threshold is not None
            else score.reason
        )
    return lines


def _robots(folder: Path | None) -> Mapping[str, RobotProfile]:
    try:
        return load_robots(folder)
    except SettingsError as error:
        raise ApiError("invalid_field", f"{error}."[:300], param="robots_dir") from None


def _change(ctx: typer.Context, customer: str, edit: SettingsEdit | None, robots_dir: Path | None, *, as_json: bool) -> None:
    customer_id = id_of("customer", "cus", customer)
    wish = Wish(by=f"operator {_user()}", edit=(lambda _: Content()) if edit is None else (lambda old: edited(old, edit)))
    profiles = _robots(robots_dir)
    changed: Changed = on_stores(ctx, lambda stores: change_settings(stores, customer_id, wish, profiles=profiles))
    _print(changed.stored, as_json=as_json)
    tell_if_unheard(is_announced=changed.is_announced)


def _print(stored: Stored, *, as_json: bool) -> None:
    told = stored.content.as_json() | {
        "version": stored.version,
        "changed_by": stored.changed_by,
        "changed_at": stored.changed_at,
    }
    if as_json:
        print_json(told)
        return
    settings = msgspec.json.format(msgspec.json.encode(told.pop("settings")), indent=2).decode()
    print_lines(told)
    typer.echo(settings)


def _change_as_json(change: Change) -> dict[str, Any]:
    return {
        "version": change.version,
        "changed_at": change.changed_at,
        "changed_by": change.changed_by,
        "before": change.before,
        "after": change.after,
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a user of that number
        return "unknown"


def _on_reject(text: str) -> OnReject:
    if text == "error":
        return "error"
    if text != "answer":
        raise ApiError("invalid_field", "on_reject must be answer or error.", param="on_reject")
    return "answer"


def _instruction(text: str) -> InstructionFields:
    table: Any = {"mode": text} if text in {"off", "deny_list"} else _table(Path(text), "instruction")
    return _converted(table, InstructionFields, "instruction")


def _converted(table: object, kind: type[_T], param: str) -> _T:
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise ApiError("invalid_safety", f"{param}: {error}.", param=param) from None


def _table(path: Path, param: str) -> Any:
    text = _text(path)
    try:
        return msgspec.json.decode(text) if path.suffix == ".json" else tomllib.loads(text)
    except (msgspec.DecodeError, tomllib.TOMLDecodeError) as error:
        raise ApiError("invalid_safety", f"{path}: {error}.", param=param) from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ApiError("invalid_field", f"{path} cannot be read: {error}.", param="file") from None
