"""`vlaapi tabletop`: make demonstrations, train on them, and measure the result in closed loop.

Each command is one step; `docs/TABLETOP.md` shows them in order with the time they took. Seeds decide everything but speed. What
asks the service like a customer is in `customer_commands`.
"""

import functools
import json
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lerobot_v3.facts import DatasetError
from tabletop import checkpoint, customer_commands, dataset, rollouts, scorecard
from tabletop.appearance import Appearance
from tabletop.curve import draw_losses
from tabletop.demos import record_each
from tabletop.drive import NoWeights, from_onnx
from tabletop.evaluate import Condition
from tabletop.render import Camera, RenderUnavailable
from tabletop.scene import Tabletop
from tabletop.things import Layout
from tabletop.train import LOG_FILE, STATE_FILE, Place, Plan, Unfinished, train

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "tabletop"
DEMOS = BUILD / "demos"
BUNDLE = ROOT / "model_repository" / "tabletop"
FIRST_SEED = 1_000_000
LOSSES_PICTURE = "training.png"
_LINE_EVERY_S = 10.0
app = typer.Typer(help="Simulate, train and evaluate the shipped policy.", no_args_is_help=True, pretty_exceptions_enable=False)
app.command("eval")(customer_commands.evaluate)
app.command("demo")(customer_commands.demo)
console = Console()
Weights = Annotated[Path, typer.Option(help="Where weights and logs are kept.")]


@app.command("demos")
def make_demos(
    episodes: int = 2000,
    out: Annotated[Path, typer.Option("--dataset", help="The LeRobotDataset v3 to make or go on with.")] = DEMOS,
    wrist: Annotated[bool, typer.Option(help="Also what the wrist camera sees; the policy does not need it.")] = True,  # noqa: FBT002 -- typer
    processes: Annotated[int, typer.Option(min=1, help="Episodes recorded at a time.")] = 2,
) -> None:
    """Record the expert in noisy episodes, as a LeRobotDataset v3. Stopped, it goes on where its last whole shard ends."""
    began = time.monotonic()
    last = dataset.Progress(episodes=0, frames=0, recorded=0, done=0)
    with _bar("episodes", episodes) as show:

        def report(now: dataset.Progress) -> None:
            nonlocal last
            last = now
            show(now.episodes, f"{now.done}/{now.recorded} did their task, {now.frames:,} frames, {_rate(now.recorded, began)}")

        try:
            expert = functools.partial(record_each, processes=processes, has_wrist=wrist)
            dataset.record(out, range(FIRST_SEED, FIRST_SEED + episodes), expert, report, has_wrist=wrist)
        except (DatasetError, RenderUnavailable) as failure:
            raise typer.Exit(_fail(str(failure))) from None
    counts = f"{last.frames:,} frames of {last.episodes:,} episodes in {out}"
    _say(f"{counts}; of {last.recorded} recorded now {last.done} did their task, {_rate(last.recorded, began)}")


@app.command("train")
def train_policy(
    steps: Annotated[int, typer.Option(min=100)] = 5000,
    seed: int = 1,
    threads: int = 1,
    folder: Annotated[Path, typer.Option("--dataset", help="A LeRobotDataset v3 of this robot.")] = DEMOS,
    weights: Weights = BUILD / "weights",
    start_from: Annotated[Path | None, typer.Option(help="Weights to begin with, such as tabletop/weights.")] = None,
) -> None:
    """Train on a dataset of demonstrations. Stopped, it goes on where its last report was."""
    try:
        if start_from is not None and not (start_from / checkpoint.WEIGHTS_FILE).exists():
            raise NoWeights(f"{start_from}: no weights there")
        if start_from is not None and start_from.resolve() == weights.resolve():
            raise NoWeights(f"{weights}: begin with a copy, this folder is written to")
        name = f"{folder.name}-{zlib.crc32(str(folder.resolve()).encode()):08x}"
        found = dataset.unpack(folder, BUILD / "frames" / name, _say)
        plan = Plan(steps=steps, seed=seed, threads=threads, start_from=None if start_from is None else str(start_from))
        about = {"demonstrations": {"episodes": found.episodes, "left_out": found.left_out}}
        place = Place(out=weights, state=weights / STATE_FILE, about=about)
        with _bar("steps", steps) as show:
            log = train(found.shards, place, plan, lambda now: show(int(now["step"]), f"motion {now['motion']:.4f}"))
    except (DatasetError, NoWeights, Unfinished) as failure:
        hint = "" if isinstance(failure, NoWeights) or (folder / "meta").exists() else "; `vlaapi tabletop demos` makes one"
        raise typer.Exit(_fail(f"{failure}{hint}")) from None
    draw_losses(log["losses"], weights / LOSSES_PICTURE)
    _say(f"{log['frames']:,} frames, {log['minutes']} min, weights and {LOSSES_PICTURE} in {weights}")


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
        found = scorecard.measure(bundle, weights / LOG_FILE, scorecard.Effort(episodes=episodes, processes=processes), _say)
    except (NoWeights, RenderUnavailable) as missing:
        raise typer.Exit(_fail(str(missing))) from None
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
        raise typer.Exit(_fail(str(missing))) from None
    _say(f"{succeeded}/{episodes} episodes lifted the named cube, {out}")


@app.command()
def picture(out: Path, seed: int = 9_000_000, size_px: int = 224, layout: Layout = Layout.CUBES, camera: str = "front") -> None:
    """Draw one scene as a camera sees it, as a JPEG or PNG by the name of `out`."""
    if camera not in {"front", "wrist"}:
        raise typer.Exit(_fail(f"camera {camera!r}: there are front and wrist"))
    table = Tabletop()
    appearance = Appearance(table)
    table.reset(seed, layout)
    appearance.vary(seed)
    try:
        with Camera(table, size_px=size_px, name=camera) as opened:
            Image.fromarray(opened.picture()).save(out, quality=90)
    except RenderUnavailable as unavailable:
        raise typer.Exit(_fail(str(unavailable))) from None


_say: Callable[[str], None] = functools.partial(console.print, highlight=False, soft_wrap=True)


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """A progress bar; on a file or pipe, a line every ten seconds."""
    told = TextColumn("{task.fields[told]}")
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), told)
    said_at = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total, told="")

        def show(done: int, told: str) -> None:
            nonlocal said_at
            progress.update(task, completed=done, told=told)
            if not console.is_terminal and time.monotonic() - said_at > _LINE_EVERY_S:
                said_at = time.monotonic()
                _say(f"{what} {done}/{total}: {told}")

        yield show


def _fail(message: str) -> int:
    console.print(message, style="red", highlight=False, soft_wrap=True, markup=False)
    return 1


if __name__ == "__main__":
    app()
