"""`vlaapi tabletop`: make demonstrations, train on them, and measure the result in closed loop.

Each command is one step; `docs/TABLETOP.md` shows them in order with the time they took. Seeds decide everything but speed. What
asks the service like a customer is in `customer_commands`.
"""

import functools
import json
import time
import zlib
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from lerobot_v3.facts import DatasetError
from tabletop import checkpoint, customer_commands, dataset, rollouts, scorecard
from tabletop.appearance import Appearance
from tabletop.contract import POLICY
from tabletop.curve import draw_losses
from tabletop.demos import record_each
from tabletop.drive import NoWeights, from_onnx, leading
from tabletop.evaluate import Condition
from tabletop.render import Camera, RenderUnavailable
from tabletop.scene import Tabletop
from tabletop.telling import BUILD, BUNDLES, bar, fail, say
from tabletop.things import Layout
from tabletop.train import LOG_FILE, STATE_FILE, Place, Plan, Unfinished, train

DEMOS = BUILD / "demos"
BUNDLE = BUNDLES / POLICY
FIRST_SEED, FIRST_LED_SEED = 1_000_000, 3_000_000
LOSSES_PICTURE = "training.png"
app = typer.Typer(help="Simulate, train and evaluate the shipped policy.", no_args_is_help=True, pretty_exceptions_enable=False)
app.command("eval")(customer_commands.evaluate)
app.command("demo")(customer_commands.demo)
Weights = Annotated[Path, typer.Option(help="Where weights and logs are kept.")]


@app.command("demos")
def make_demos(
    episodes: int = 4000,
    out: Annotated[Path, typer.Option("--dataset", help="The LeRobotDataset v3 to make or go on with.")] = DEMOS,
    wrist: Annotated[bool, typer.Option(help="Also what the wrist camera sees; the policy does not need it.")] = True,  # noqa: FBT002 -- typer
    processes: Annotated[int, typer.Option(min=1, help="Episodes recorded at a time.")] = 2,
    led_by: Annotated[Path | None, typer.Option(help="Weights that drive first; the expert goes on from their mistakes.")] = None,
) -> None:
    """Record the expert in noisy episodes, as a LeRobotDataset v3. Stopped, it goes on where its last whole shard ends."""
    if led_by is not None and not (led_by / checkpoint.WEIGHTS_FILE).exists():
        raise typer.Exit(fail(f"{led_by}: no weights there"))
    first_seed = FIRST_SEED if led_by is None else FIRST_LED_SEED
    open_lead = None if led_by is None else functools.partial(leading, led_by)
    began = time.monotonic()
    last = dataset.Progress(episodes=0, frames=0, recorded=0, done=0)
    with bar("episodes", episodes) as show:

        def report(now: dataset.Progress) -> None:
            nonlocal last
            last = now
            show(now.episodes, f"{now.done}/{now.recorded} did their task, {now.frames:,} frames, {_rate(now.recorded, began)}")

        try:
            expert = functools.partial(record_each, processes=processes, has_wrist=wrist, open_lead=open_lead)
            dataset.record(out, range(first_seed, first_seed + episodes), expert, report, has_wrist=wrist)
        except (DatasetError, RenderUnavailable) as failure:
            raise typer.Exit(fail(str(failure))) from None
    counts = f"{last.frames:,} frames of {last.episodes:,} episodes in {out}"
    say(f"{counts}; of {last.recorded} recorded now {last.done} did their task, {_rate(last.recorded, began)}")


@app.command("train")
def train_policy(
    steps: Annotated[int, typer.Option(min=100)] = 7000,
    seed: int = 1,
    threads: int = 1,
    folders: Annotated[
        list[Path] | None, typer.Option("--dataset", help="A LeRobotDataset v3 of this robot; may be given again.")
    ] = None,
    weights: Weights = BUILD / "weights",
    start_from: Annotated[Path | None, typer.Option(help="Weights to begin with, such as tabletop/weights.")] = None,
) -> None:
    """Train on datasets of demonstrations. Stopped, it goes on where its last report was."""
    chosen = folders or [DEMOS]
    try:
        if start_from is not None and not (start_from / checkpoint.WEIGHTS_FILE).exists():
            raise NoWeights(f"{start_from}: no weights there")
        if start_from is not None and start_from.resolve() == weights.resolve():
            raise NoWeights(f"{weights}: begin with a copy, this folder is written to")
        found = [dataset.unpack(folder, _frames_of(folder), say, processes=2) for folder in chosen]
        plan = Plan(steps=steps, seed=seed, threads=threads, start_from=None if start_from is None else str(start_from))
        about = {"episodes": sum(one.episodes for one in found), "left_out": sum(one.left_out for one in found)}
        place = Place(out=weights, state=weights / STATE_FILE, about={"demonstrations": about})
        with bar("steps", steps) as show:
            shards = [shard for one in found for shard in one.shards]
            log = train(shards, place, plan, lambda now: show(int(now["step"]), f"motion {now['motion']:.4f}"))
    except (DatasetError, NoWeights, Unfinished) as failure:
        is_there = isinstance(failure, NoWeights) or all((folder / "meta").exists() for folder in chosen)
        raise typer.Exit(fail(f"{failure}{'' if is_there else '; `vlaapi tabletop demos` makes one'}")) from None
    draw_losses(log["losses"], weights / LOSSES_PICTURE)
    say(f"{log['frames']:,} frames, {log['minutes']} min, weights and {LOSSES_PICTURE} in {weights}")


def _frames_of(folder: Path) -> Path:
    return BUILD / "frames" / f"{folder.name}-{zlib.crc32(str(folder.resolve()).encode()):08x}"


def _rate(episodes: int, began: float) -> str:
    return f"{60 * episodes / max(1e-9, time.monotonic() - began):.0f} episodes/min"


@app.command("score")
def score(
    episodes: Annotated[int, typer.Option(help="Runs per condition.")] = 100,
    bundle: Path = BUNDLE,
    weights: Weights = checkpoint.FOLDER,
    processes: int = 2,
) -> None:
    """Measure the exported graph in closed loop, in this process, for the model's card: `evaluation.json` beside the weights."""
    try:
        found = scorecard.measure(bundle, weights / LOG_FILE, scorecard.Effort(episodes=episodes, processes=processes), say)
    except (NoWeights, RenderUnavailable) as missing:
        raise typer.Exit(fail(str(missing))) from None
    (weights / "evaluation.json").write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")


@app.command("rollouts")
def record_rollouts(
    out: Annotated[Path, typer.Option(help="Folder for one .npz per episode.")],
    episodes: int = 150,
    execute: Annotated[int, typer.Option(min=1, max=8, help="Steps executed of each chunk.")] = 4,
    bundle: Path = BUNDLE,
) -> None:
    """Record the exported graph in closed loop, for `vlaapi safety calibrate`."""
    condition = Condition(name="rollouts", execute=execute)
    try:
        succeeded = rollouts.record(from_onnx(bundle / scorecard.SERVED_MODEL), out, episodes, condition)
    except (NoWeights, RenderUnavailable) as missing:
        raise typer.Exit(fail(str(missing))) from None
    say(f"{succeeded}/{episodes} episodes lifted the named cube, {out}")


@app.command()
def picture(out: Path, seed: int = 9_000_000, size_px: int = 224, layout: Layout = Layout.CUBES, camera: str = "front") -> None:
    """Draw one scene as a camera sees it, as a JPEG or PNG by the name of `out`."""
    if camera not in {"front", "wrist"}:
        raise typer.Exit(fail(f"camera {camera!r}: there are front and wrist"))
    table = Tabletop()
    appearance = Appearance(table)
    table.reset(seed, layout)
    appearance.vary(seed)
    try:
        with Camera(table, size_px=size_px, name=camera) as opened:
            Image.fromarray(opened.picture()).save(out, quality=90)
    except RenderUnavailable as unavailable:
        raise typer.Exit(fail(str(unavailable))) from None


if __name__ == "__main__":
    app()
