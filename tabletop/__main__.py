"""`vlaapi tabletop`: make demonstrations, train on them, and measure the result in closed loop.

Each command is one step; `docs/TABLETOP.md` shows them in order with the time they took. Seeds decide everything but speed.
"""

import functools
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from rich.console import Console

from tabletop import checkpoint, demos, rollouts, scorecard
from tabletop.appearance import Appearance
from tabletop.drive import from_onnx
from tabletop.evaluate import Condition
from tabletop.instructions import write_tokenizer
from tabletop.render import Camera, RenderUnavailable
from tabletop.scene import Tabletop
from tabletop.train import LOG_FILE, Plan, train

ROOT = Path(__file__).resolve().parent.parent
DEMOS = ROOT / "build" / "tabletop" / "demos"
BUNDLE = ROOT / "model_repository" / "tabletop"
FIRST_SEED = 1_000_000
app = typer.Typer(help="Simulate, train and evaluate the shipped policy.", no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()
Folder = Annotated[Path, typer.Option(help="Where demonstrations are kept, 50 kB a frame.")]
Weights = Annotated[Path, typer.Option(help="Where weights and logs are kept.")]


@app.command("demos")
def make_demos(episodes: int = 3000, processes: int = 2, folder: Folder = DEMOS) -> None:
    """Record the expert in noisy episodes."""
    cuts = np.linspace(FIRST_SEED, FIRST_SEED + episodes, processes + 1).astype(int).tolist()
    jobs = [
        demos.Job(folder=folder, name=f"seeds-{start}-{end}", seeds=range(start, end)) for start, end in itertools.pairwise(cuts)
    ]
    started = time.monotonic()
    frames, lifted = (sum(column) for column in zip(*demos.run_all(jobs), strict=True))
    minutes = round((time.monotonic() - started) / 60, 2)
    made = {"episodes": episodes, "lifted": lifted, "first_seed": FIRST_SEED, "minutes": minutes}
    (folder / demos.LOG_FILE).write_text(json.dumps(made, indent=2) + "\n")
    _say(f"{frames:,} frames, {lifted}/{episodes} episodes lifted the cube, {minutes} min")


@app.command("train")
def train_policy(
    steps: int = 4000, seed: int = 1, threads: int = 1, folder: Folder = DEMOS, weights: Weights = checkpoint.FOLDER
) -> None:
    """Train on everything in the demonstrations' folder."""
    weights.mkdir(parents=True, exist_ok=True)
    write_tokenizer(weights)
    log = train(folder, weights, Plan(steps=steps, seed=seed, threads=threads), _say)
    _say(f"{log['frames']:,} frames, {log['minutes']} min, weights in {weights}")


@app.command("eval")
def evaluate(
    episodes: Annotated[int, typer.Option(help="Runs per condition.")] = 100,
    bundle: Path = BUNDLE,
    weights: Weights = checkpoint.FOLDER,
) -> None:
    """Measure the exported graph in closed loop and write `evaluation.json` beside the weights."""
    found = scorecard.measure(bundle, weights / LOG_FILE, episodes, _say)
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
    succeeded = rollouts.record(from_onnx(bundle / scorecard.SERVED_MODEL), out, episodes, condition)
    _say(f"{succeeded}/{episodes} episodes lifted the named cube, {out}")


@app.command()
def picture(out: Path, seed: int = 9_000_000, size_px: int = 224) -> None:
    """Draw one scene as the camera sees it, as a JPEG or PNG by the name of `out`."""
    table = Tabletop()
    appearance = Appearance(table)
    table.reset(seed)
    appearance.vary(seed)
    try:
        with Camera(table, size_px=size_px) as camera:
            Image.fromarray(camera.picture()).save(out, quality=90)
    except RenderUnavailable as unavailable:
        raise typer.Exit(_fail(str(unavailable))) from None


_say: Callable[[str], None] = functools.partial(console.print, highlight=False, soft_wrap=True)


def _fail(message: str) -> int:
    console.print(message, style="red")
    return 1


if __name__ == "__main__":
    app()
