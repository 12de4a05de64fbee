"""`vlaapi tabletop`: make demonstrations, train on them, let the expert correct the result, and measure it in closed loop.

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

from tabletop import checkpoint, demos, scorecard
from tabletop.appearance import Appearance
from tabletop.drive import dagger_driver
from tabletop.instructions import write_tokenizer
from tabletop.render import Camera, RenderUnavailable
from tabletop.scene import Tabletop
from tabletop.train import LOG_FILE, Plan, train

ROOT = Path(__file__).resolve().parent.parent
DEMOS = ROOT / "build" / "tabletop" / "demos"
BUNDLE = ROOT / "model_repository" / "tabletop"
EXPERT_SEED, DAGGER_SEED = 1_000_000, 2_000_000
app = typer.Typer(help="Simulate, train and evaluate the shipped policy.", no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()
Folder = Annotated[Path, typer.Option(help="Where demonstrations are kept, 50 kB a frame.")]
Weights = Annotated[Path, typer.Option(help="Where weights and logs are kept.")]


@app.command("demos")
def make_demos(
    episodes: int = 3000,
    processes: int = 2,
    folder: Folder = DEMOS,
    driver: Annotated[Path | None, typer.Option(help="Weights that drive while the expert labels (DAgger).")] = None,
) -> None:
    """Record episodes: driven by the expert with noise, or by a policy with the expert's labels."""
    first = EXPERT_SEED if driver is None else DAGGER_SEED
    cuts = np.linspace(first, first + episodes, processes + 1).astype(int).tolist()
    make_driver = None if driver is None else functools.partial(dagger_driver, driver)
    started = time.monotonic()
    jobs = [
        demos.Job(folder=folder, name=f"seeds-{start}-{end}", seeds=range(start, end), make_driver=make_driver)
        for start, end in itertools.pairwise(cuts)
    ]
    found = demos.run_all(jobs)
    frames, lifted = (sum(column) for column in zip(*found, strict=True))
    console.print(f"{frames:,} frames, {lifted}/{episodes} episodes lifted the cube, {(time.monotonic() - started) / 60:.1f} min")


@app.command("train")
def train_policy(
    steps: int = 6500,
    seed: int = 1,
    threads: int = 2,
    folder: Folder = DEMOS,
    weights: Weights = checkpoint.FOLDER,
    start: Annotated[Path | None, typer.Option(help="Weights to go on from.")] = None,
) -> None:
    """Train on everything in the demonstrations' folder."""
    write_tokenizer(checkpoint.FOLDER)
    plan = Plan(steps=steps, seed=seed, threads=threads, learning_rate=1.5e-3 if start is None else 7e-4)
    log = train(folder, weights, plan, _say, start=start)
    console.print(f"{log['frames']:,} frames, {log['minutes']} min, weights in {weights}")


@app.command("eval")
def evaluate(
    episodes: Annotated[int, typer.Option(help="Runs per condition.")] = 100,
    bundle: Path = BUNDLE,
    weights: Weights = checkpoint.FOLDER,
) -> None:
    """Measure the exported graph in closed loop and write `evaluation.json` beside the weights."""
    found = scorecard.measure(bundle, weights / LOG_FILE, episodes, _say)
    (weights / "evaluation.json").write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")


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


_say: Callable[[str], None] = functools.partial(console.print, highlight=False)


def _fail(message: str) -> int:
    console.print(message, style="red")
    return 1


if __name__ == "__main__":
    app()
