"""`vlaapi tabletop eval` and `demo`: the simulated robot asks the public API with a key, like any customer.

Reads the words, opens the service and the table, prints tables and writes files. What runs is in `episode` and `series`, what is
drawn in `film` and `curve`.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tabletop.asking import Asks, Customer, Denied, InProcess
from tabletop.contract import CONTROL_HZ, HORIZON
from tabletop.curve import Point, draw
from tabletop.drive import NoWeights, from_onnx
from tabletop.env import Settings, TabletopEnv
from tabletop.episode import TICK_S, Manner, Moment, run
from tabletop.evaluate import FIRST_SEED
from tabletop.film import Film, verdict_of
from tabletop.instructions import UnknownTask, plain_instruction, understood
from tabletop.render import RenderUnavailable
from tabletop.running_service import NoService, Service, find
from tabletop.series import Series, episodes
from tabletop.telling import BUILD, BUNDLES, console, fail, say
from tabletop.things import BOWL, COLOURS, Layout
from tabletop.verbs import Task, Verb
from tabletop.wording import Wording
from tabletop.world import FRONT
from vlaapi_client import Client, VlaError
from vlaapi_client.stream import Stream

DEADLINE_MS = 5000
_FILM_PX = 320
_SCENES_TRIED = 200
_FAILURES = (Denied, NoService, NoWeights, RenderUnavailable, UnknownTask, VlaError)


class Through(StrEnum):
    """By which door the service is asked."""

    HTTP = "http"
    WEBSOCKET = "websocket"
    NOTHING = "nothing"  # the graph in this process: no service, no guard


Url = Annotated[str | None, typer.Option(help="The service; the running one of this checkout without it.")]
Key = Annotated[
    str | None, typer.Option(envvar="VLA_KEY", help="The API key; the demo customer's without it.", show_default=False)
]
Door = Annotated[Through, typer.Option(help="By which door; `nothing` is the graph in this process, without guard.")]
Delays = Annotated[
    str, typer.Option(help="Added to every answer, in ms of the robot's time; several with commas draw the curve.")
]
Overlap = Annotated[
    bool | None, typer.Option(help="Ask for the next chunk while this one runs; without the flag, with several delays: both.")
]
AskEvery = Annotated[
    int, typer.Option(min=1, max=HORIZON, help="With overlap, ask again after so many steps; 1 records every step for training.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The words of `eval`, read."""

    policy: str
    episodes: int
    seed: int
    settings: Settings
    doors: tuple[Through, ...]
    delays_ms: tuple[int, ...]
    overlaps: tuple[bool, ...]
    service: Service | None
    has_state: bool
    ask_every: int


def evaluate(
    policy: Annotated[str, typer.Option(help="The policy to ask for.")] = "tabletop",
    episodes: Annotated[int, typer.Option(min=1, help="Scenes per condition.")] = 200,
    task: Annotated[str | None, typer.Option(help="Only this: pick_up, move_to or put_in_bowl.")] = None,
    layout: Annotated[
        Layout, typer.Option(help="`varied`: everything; `cubes`: three cubes, as the first policy learnt it.")
    ] = Layout.VARIED,
    wording: Annotated[Wording, typer.Option(help="`held_out` are words and forms that training never saw.")] = Wording.PLAIN,
    through: Door = Through.HTTP,
    delay_ms: Delays = "0",
    overlap: Overlap = None,
    ask_every: AskEvery = HORIZON // 2,
    unguarded: Annotated[bool, typer.Option("--unguarded", help="The same also without service and guard, to compare.")] = False,
    state: Annotated[bool, typer.Option(help="Send the robot's state.")] = True,
    time_limit_s: Annotated[
        float, typer.Option(min=0.5, max=60, help="Robot time per episode: what takes longer has failed.")
    ] = 12.0,
    seed: Annotated[int, typer.Option(help="The first scene.")] = FIRST_SEED,
    out: Annotated[Path, typer.Option(help="Folder for eval.json and, with several delays, delay.png.")] = BUILD / "eval",
    url: Url = None,
    key: Key = None,
) -> None:
    """Closed-loop success through the API, like a customer: by task and colour, with latency and the guard's interventions."""
    try:
        delays = _delays(delay_ms)
        doors = (through, Through.NOTHING) if unguarded and through is not Through.NOTHING else (through,)
        steps = round(CONTROL_HZ * time_limit_s)
        verbs = _verbs(task, layout)
        asked = Asked(
            policy=policy,
            episodes=episodes,
            seed=seed,
            settings=Settings(layout=layout, verbs=verbs, wording=wording, cameras=(FRONT,), max_steps=steps),
            doors=doors,
            delays_ms=delays,
            overlaps=(overlap,) if overlap is not None else (True, False)[: len(delays)],
            service=None if doors == (Through.NOTHING,) else find(url, key),
            has_state=state,
            ask_every=ask_every,
        )
        _evaluate(asked, out)
    except _FAILURES as error:
        raise typer.Exit(fail(error)) from None


def _evaluate(asked: Asked, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[Point]] = {}
    file = out / "eval.json"
    told: list[dict[str, Any]] = []
    with closing(TabletopEnv(asked.settings)) as env:
        for door in asked.doors:
            for has_overlap in asked.overlaps:
                name = f"{'no guard' if door is Through.NOTHING else door}, {'with' if has_overlap else 'without'} overlap"
                for delay_ms in asked.delays_ms:
                    manner = Manner(
                        delay_ms=delay_ms,
                        has_overlap=has_overlap,
                        ask_every=asked.ask_every,
                        has_state=asked.has_state,
                        deadline_ms=DEADLINE_MS,
                        model=None if door is Through.NOTHING else asked.policy,
                    )
                    series = _series(env, asked, door, manner, f"{name}, +{delay_ms} ms")
                    lines.setdefault(name, []).append(Point(delay_ms=delay_ms, row=series.row("all")))
                    told.append({"through": door, "delay_ms": delay_ms, "has_overlap": has_overlap, **series.told()})
                    _show(series, f"{asked.policy}, {name}, +{delay_ms} ms, {asked.settings.wording} words")
                    file.write_text(json.dumps({"policy": asked.policy, "first_seed": asked.seed, "runs": told}, indent=1) + "\n")
    say(f"wrote {file}")
    if len(asked.delays_ms) > 1:
        draw(lines, f"{asked.policy}: {asked.episodes} episodes per point, {asked.settings.layout} scenes", out / "delay.png")
        say(f"wrote {out / 'delay.png'}")
    if any(run["lost"] for run in told):
        raise typer.Exit(1)


def _series(env: TabletopEnv, asked: Asked, door: Through, manner: Manner, name: str) -> Series:
    seeds = range(asked.seed, asked.seed + asked.episodes)
    with _opened(door, asked.service, asked.policy) as asks, Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(name, total=asked.episodes)
        return episodes(env, asks, seeds, manner, lambda _: progress.advance(bar))


def demo(
    cube: Annotated[str | None, typer.Option(help=f"The colour to pick up: {', '.join(COLOURS)}.")] = None,
    instruction: Annotated[str | None, typer.Option(help="Or the whole sentence.")] = None,
    seed: Annotated[int | None, typer.Option(help="The scene; without it, one in which what you name is there.")] = None,
    layout: Annotated[Layout, typer.Option(help="`cubes` or `varied`.")] = Layout.CUBES,
    through: Door = Through.HTTP,
    out: Annotated[Path, typer.Option(help="Folder for demo.gif and demo.png.")] = BUILD / "demo",
    url: Url = None,
    key: Key = None,
) -> None:
    """Watch a simulated Franka do what you say, by asking the public API for every motion."""
    try:
        sentence = instruction or f"pick up the {cube or 'red'} cube"
        task = understood(sentence)
        service = None if through is Through.NOTHING else find(url, key)
        with closing(TabletopEnv(Settings(layout=layout, picture_px=_FILM_PX))) as env:
            scene = _scene_with(env, task, seed)
            with _opened(through, service, "tabletop") as asks:
                moments: list[Moment] = []
                manner = Manner(deadline_ms=DEADLINE_MS)
                outcome = run(env, asks, scene, manner, watch=_in_real_time(moments), task=task, instruction=sentence)
            film = Film(moments=moments, outcome=outcome)
    except _FAILURES as error:
        raise typer.Exit(fail(error)) from None
    out.mkdir(parents=True, exist_ok=True)
    film.animation(out / "demo.gif")
    film.sheet(out / "demo.png")
    latency = Series(outcomes=(outcome,), measured=asks.measured).latency()
    answers = f"{int(latency.get('answers', 0))} answers, median {latency.get('round_trip_p50_ms', 0):.0f} ms"
    say(f"“{sentence}” (scene {scene}): {verdict_of(outcome)}; {answers}; wrote {out / 'demo.gif'} and {out / 'demo.png'}")
    raise typer.Exit(0 if outcome.is_success else 1)


def _in_real_time(moments: list[Moment]) -> Callable[[Moment], None]:
    """Keeps each moment and lets its tenth of a second pass, so that the guard sees a robot at the rate that it says it has."""
    began_s = time.monotonic()

    def watch(moment: Moment) -> None:
        moments.append(moment)
        time.sleep(max(0.0, began_s + moment.step * TICK_S - time.monotonic()))

    return watch


def _scene_with(env: TabletopEnv, task: Task, seed: int | None) -> int:
    """A scene in which the task can be done. Raises UnknownTask where there is none among those tried, or in the one named."""
    tried = [seed] if seed is not None else list(range(FIRST_SEED, FIRST_SEED + _SCENES_TRIED))
    for one in tried:
        env.table.reset(one, env.settings.layout)
        view = env.table.view
        needs_bowl = task.verb is Verb.PUT_IN_BOWL or task.thing == BOWL
        if (task.thing == BOWL or task.thing in view.things) and (view.bowl_at is not None or not needs_bowl):
            return one
    there = ", ".join([*sorted(env.table.view.things), *([] if env.table.view.bowl_at is None else [BOWL])])
    raise UnknownTask(f"“{plain_instruction(task)}” cannot be done in scene {tried[-1]}: there are {there}")


@contextmanager
def _opened(door: Through, service: Service | None, policy: str) -> Iterator[Asks]:
    """Whoever answers. Raises the SDK's errors where the service or the key will not do, before any robot moves."""
    if door is Through.NOTHING or service is None:
        yield InProcess(from_onnx(BUNDLES / policy / "1" / "model.onnx"))
        return
    with ExitStack() as stack:
        client: Any = stack.enter_context(
            Stream(service.url, service.key, deadline_ms=DEADLINE_MS)
            if door is Through.WEBSOCKET
            else Client(service.url, service.key, deadline_ms=DEADLINE_MS, attempts=1)
        )
        known = client.warm()
        if isinstance(known, tuple) and policy not in {model.id for model in known}:
            raise NoWeights(f"policy {policy!r}: this key may use {', '.join(sorted(model.id for model in known)) or 'none'}")
        yield Customer(client)


def _show(series: Series, title: str) -> None:
    table = Table("", "succeeded", "95 %", "wrong thing", "time needed", title=title, title_justify="left")
    for row in series.rows():
        table.add_row(*row.cells)
    console.print(table)
    latency = series.latency()
    if latency:
        say(
            f"per answer: {latency['round_trip_p50_ms']:.1f} ms median, {latency['round_trip_p99_ms']:.1f} ms p99 "
            f"(service {latency['service_p50_ms']:.1f} and {latency['service_p99_ms']:.1f}), {int(latency['answers'])} answers"
        )
    interventions = ", ".join(f"{name} {count}" for name, count in series.interventions().items()) or "none"
    say(f"guard interventions: {interventions}")
    for outcome in series.outcomes:
        if outcome.lost:
            say(f"given up in scene {outcome.seed}: {outcome.lost}")


def _delays(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isascii() and part.strip().isdigit() and int(part) <= 2000 for part in parts):
        raise UnknownTask(f"delay-ms {text!r}: write milliseconds from 0 to 2000, several with commas")
    return tuple(int(part) for part in parts)


def _verbs(task: str | None, layout: Layout) -> tuple[Verb, ...] | None:
    if task is None:
        return None
    known = [verb.value for verb in Verb]
    if task not in known:
        raise UnknownTask(f"task {task!r}: there are {', '.join(known)}")
    if layout is Layout.CUBES and task != Verb.PICK_UP:
        raise UnknownTask(f"task {task!r}: scenes of layout cubes have no bowl and are for pick_up; use --layout varied")
    return (Verb(task),)
