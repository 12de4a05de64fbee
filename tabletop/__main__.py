"""`vlaapi tabletop`: make demonstrations, train on them, and measure the result in closed loop.

Each command is one step; `docs/TABLETOP.md` shows them in order with the time they took. Seeds decide everything but speed. What
asks the service like a customer is in `customer_commands`.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tabletop import checkpoint, customer_commands, rollouts, scorecard, shards
from tabletop.appearance import Appearance
from tabletop.curve import draw_losses
from tabletop.demos import collect
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
FIRST_SEED, SHARD = 1_000_000, 50
LOSSES_PICTURE = "training.png"
app = typer.Typer(help="Simulate, train and evaluate the shipped policy.", no_args_is_help=True, pretty_exceptions_enable=False)
app.command("eval")(customer_commands.evaluate)
app.command("demo")(customer_commands.demo)
console = Console()
Folder = Annotated[Path, typer.Option(help="Where demonstrations are kept, 50 kB a frame.")]
Weights = Annotated[Path, typer.Option(help="Where weights and logs are kept.")]


@app.command("demos")
def make_demos(episodes: int = 2000, folder: Folder = DEMOS) -> None:
    """Record the expert in noisy episodes. Stopped, it goes on where it was."""
    folder.mkdir(parents=True, exist_ok=True)
    with _bar("episodes", episodes) as (show, progress):
        try:
            made = shards.make(
                folder,
                range(FIRST_SEED, FIRST_SEED + episodes),
                SHARD,
                collect,
                lambda now: show(
                    now.episodes, f"{now.done} done, {now.frames:,} frames, {now.episodes_per_minute:.0f} episodes/min"
                ),
            )
        except RenderUnavailable as unavailable:
            progress.stop()
            raise typer.Exit(_fail(str(unavailable))) from None
    rate = f"{made.episodes_per_minute:.0f} episodes/min"
    _say(f"{made.frames:,} frames, {made.done}/{made.episodes} episodes did their task, {rate}")


@app.command("train")
def train_policy(
    steps: Annotated[int, typer.Option(min=100)] = 5000,
    seed: int = 1,
    threads: int = 1,
    folder: Folder = DEMOS,
    weights: Weights = BUILD / "weights",
    start_from: Annotated[Path | None, typer.Option(help="Weights to begin with, such as tabletop/weights.")] = None,
) -> None:
    """Train on the demonstrations. Stopped, it goes on where its last report was."""
    found = shards.load(folder)
    if not found:
        raise typer.Exit(_fail(f"{folder}: no demonstrations there; `vlaapi tabletop demos` makes them"))
    if start_from is not None and not (start_from / checkpoint.WEIGHTS_FILE).exists():
        raise typer.Exit(_fail(f"{start_from}: no weights there"))
    plan = Plan(steps=steps, seed=seed, threads=threads, start_from=None if start_from is None else str(start_from))
    place = Place(out=weights, state=BUILD / STATE_FILE, about={"demonstrations": shards.summary(folder)})
    with _bar("steps", steps) as (show, progress):
        try:
            log = train(found, place, plan, lambda now: show(int(now["step"]), f"motion {now['motion']:.4f}"))
        except Unfinished as unfinished:
            progress.stop()
            raise typer.Exit(_fail(str(unfinished))) from None
    draw_losses(log["losses"], weights / LOSSES_PICTURE)
    _say(f"{log['frames']:,} frames, {log['minutes']} min, weights and {LOSSES_PICTURE} in {weights}")


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


class _bar:  # noqa: N801 -- used as a with statement
    """A progress bar; on a file or pipe, a line per report."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        columns = (
            TextColumn(what),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[told]}"),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)

    def __enter__(self) -> tuple[Callable[[int, str], None], Progress]:
        self._progress.start()
        self._task = self._progress.add_task(self._what, total=self._total, told="")
        return self._show, self._progress

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _show(self, done: int, told: str) -> None:
        self._progress.update(self._task, completed=done, told=told)
        if not console.is_terminal:
            _say(f"{self._what} {done}/{self._total}: {told}")


def _fail(message: str) -> int:
    console.print(message, style="red", highlight=False, soft_wrap=True, markup=False)
    return 1


if __name__ == "__main__":
    app()
