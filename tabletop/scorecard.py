"""The measurements that go into the model's card: which conditions, how many runs, and what they say about the training.

`vlaapi tabletop score` writes the result as JSON beside the weights; `export/card.py` turns it into a table. It judges nothing.
"""

import functools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from export.bundle import hashes
from tabletop.drive import from_onnx
from tabletop.env import MAX_STEPS
from tabletop.evaluate import FIRST_SEED, Condition, closed_loop, first_motion
from tabletop.things import Layout
from tabletop.verbs import Verb
from tabletop.wording import Wording

SERVED_MODEL = "1/model.onnx"
_HELD_OUT = "wording never trained on"


def _conditions() -> tuple[Condition, ...]:
    return (*(condition for verb in Verb for condition in _of(verb)), *_harder(), *_three_cubes())


def _of(verb: Verb) -> tuple[Condition, ...]:
    name, varied = verb.value.replace("_", " "), Condition(name="", layout=Layout.VARIED, verbs=(verb,))
    return (
        replace(varied, name=name),
        replace(varied, name=f"{name}, no state (the minimal request)", has_state=False),
        replace(varied, name=f"{name}, {_HELD_OUT}", wording=Wording.HELD_OUT),
    )


def _harder() -> tuple[Condition, ...]:
    picking = Condition(name="", layout=Layout.VARIED)
    return (
        replace(picking, name="pick up, JPEG quality 85", jpeg_quality=85),
        replace(picking, name="pick up, 8 of 8 steps executed", execute=8),
        replace(picking, name="pick up, camera moved up to 20 mm and 1.4°", camera_bump=4),
    )


def _three_cubes() -> tuple[Condition, ...]:
    """The scenes of the first policy: three cubes and nothing else."""
    name = "three cubes, pick up"
    hard = Condition(name=f"{name}, no state, JPEG quality 85, {_HELD_OUT}", has_state=False, jpeg_quality=85)
    return Condition(name=name), replace(hard, wording=Wording.HELD_OUT)


CONDITIONS = _conditions()
DIRECTIONS = (
    Condition(name="state sent"),
    Condition(name="no state", has_state=False),
    Condition(
        name="no state, JPEG quality 85, wording never trained on", has_state=False, jpeg_quality=85, wording=Wording.HELD_OUT
    ),
)
LIMITS = (
    "One simulated arm, one camera place (± 5 mm), one table, things of 4 cm in five colours that stand apart; nothing here was "
    "tried on a real robot.",
    "No two things of a scene have the same colour: whether it tells a red cube from a red cylinder beside it was not tried.",
    "A colour it was not trained on, or no colour at all, still gives motion: the policy does not know that it does not know.",
    "The wordings never trained on were in no training sentence, but two of eight failed at first and training was changed for "
    "such words: no blind test any more. Of 14 wordings written afterwards each did 5 of 5.",
    "The words are read as a bag: “not the red but the blue cube” means nothing to it.",
    "A camera that stands elsewhere, or a picture that is not square, is outside what it has seen.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is run."""

    episodes: int = 100
    processes: int = 2


def measure(bundle: Path, training: Path, effort: Effort, report: Callable[[str], None]) -> dict[str, Any]:
    """Runs every condition on the graph in `bundle` that is served."""
    make_policy = functools.partial(from_onnx, bundle / SERVED_MODEL)
    policy = make_policy()
    loops = []
    for condition in CONDITIONS:
        tally = closed_loop(make_policy, condition, effort.episodes, effort.processes)
        loops.append({"name": condition.name, **asdict(tally)})
        report(f"{condition.name}: {tally.lifted_named}/{tally.episodes}, another thing {tally.lifted_wrong}")
    motions = []
    for condition in DIRECTIONS:
        right, asked = first_motion(policy, condition, effort.episodes)
        motions.append({"name": condition.name, "right": right, "asked": asked})
        report(f"first motion, {condition.name}: {right}/{asked}")
    return {
        "model_sha256": hashes(bundle)[SERVED_MODEL],
        "first_seed": FIRST_SEED,
        "max_steps": MAX_STEPS,
        "closed_loop": loops,
        "first_motion": motions,
        "training": _training(json.loads(training.read_text())),
        "limits": LIMITS,
    }


def _training(log: dict[str, Any]) -> list[str]:
    """What the log of the training run says, a sentence each."""
    plan, made = log["plan"], log["demonstrations"]
    drawing = plan.get("drawing", plan)  # older logs have it flat
    last = ", ".join(f"{name} {value}" for name, value in log["losses"][-1].items() if name != "step")
    before = _training(log["before"]) if "before" in log else []
    begun = [f"Gone on from the weights in `{plan['start_from']}`:"] if plan.get("start_from") else []
    return [
        *before,
        *begun,
        f"{log['parameters']:,} parameters, torch {log['torch']}, seed {plan['seed']}.",
        f"{made['episodes']:,} noisy episodes by the scripted expert.",
        f"{plan['steps']:,} steps of {drawing['batch']} from {log['frames']:,} frames in {log['minutes']} minutes, "
        f"threads: {plan['threads']}; last losses: {last}.",
        f"Withheld: the state in {drawing['state_dropout']:.0%} of the samples, a word that decides nothing with "
        f"{drawing['word_dropout']:.0%} chance. Strewn in: small words that decide nothing, into "
        f"{drawing.get('particles', 0):.0%} of the sentences.",
    ]
