"""The measurements that go into the model's card: which conditions, how many runs, and what they say about the training.

`vlaapi tabletop eval` writes the result as JSON beside the weights; `export/card.py` turns it into a table. It judges nothing.
"""

import functools
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from export.bundle import hashes
from tabletop.drive import from_onnx
from tabletop.evaluate import FIRST_SEED, MAX_STEPS, Condition, Wording, closed_loop, first_motion

SERVED_MODEL = "1/model.onnx"
CONDITIONS = (
    Condition(name="state sent"),
    Condition(name="no state (the minimal request)", has_state=False),
    Condition(name="state sent, JPEG quality 85", jpeg_quality=85),
    Condition(name="no state, JPEG quality 85", has_state=False, jpeg_quality=85),
    Condition(name="state sent, JPEG of 480×480", jpeg_quality=85, picture_px=480),
    Condition(name="no state, JPEG of 480×480", has_state=False, jpeg_quality=85, picture_px=480),
    Condition(name="state sent, wording never trained on", wording=Wording.HELD_OUT),
    Condition(name="no state, wording never trained on", has_state=False, wording=Wording.HELD_OUT),
    Condition(name="state sent, 2 of 8 steps executed", execute=2),
    Condition(name="no state, 2 of 8 steps executed", has_state=False, execute=2),
    Condition(name="state sent, 8 of 8 steps executed", execute=8),
    Condition(name="no state, 8 of 8 steps executed", has_state=False, execute=8),
    Condition(name="state sent, camera moved up to 20 mm and 1.4°", camera_bump=4),
    Condition(name="no state, camera moved up to 20 mm and 1.4°", has_state=False, camera_bump=4),
    Condition(name="state sent, camera moved up to 50 mm and 3.4°", camera_bump=10),
    Condition(name="no state, camera moved up to 50 mm and 3.4°", has_state=False, camera_bump=10),
)
DIRECTIONS = (
    Condition(name="state sent"),
    Condition(name="no state", has_state=False),
    Condition(
        name="no state, JPEG quality 85, wording never trained on", has_state=False, jpeg_quality=85, wording=Wording.HELD_OUT
    ),
)
LIMITS = (
    "One simulated arm, one camera place (± 5 mm), one table, three cubes of 4 cm in red, green and blue that stand apart; "
    "nothing here was tried on a real robot.",
    "A colour it was not trained on, or no colour at all, still gives motion: the policy does not know that it does not know.",
    "The words are read as a bag: “not the red but the blue cube” means nothing to it.",
    "A camera that stands elsewhere, or a picture that is not square, is outside what it has seen.",
)


def measure(bundle: Path, training: Path, episodes: int, report: Callable[[str], None]) -> dict[str, Any]:
    """Runs every condition on the graph in `bundle` that is served."""
    make_policy = functools.partial(from_onnx, bundle / SERVED_MODEL)
    loops = []
    for condition in CONDITIONS:
        tally = closed_loop(make_policy, condition, episodes)
        loops.append({"name": condition.name, **asdict(tally)})
        report(f"{condition.name}: {tally.lifted_named}/{tally.episodes}, wrong cube {tally.lifted_wrong}")
    motions = []
    for condition in DIRECTIONS:
        right, asked = first_motion(make_policy(), condition, episodes)
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
    last = ", ".join(f"{name} {value}" for name, value in log["losses"][-1].items() if name != "step")
    return [
        f"{log['parameters']:,} parameters, torch {log['torch']}, seed {plan['seed']}.",
        f"{made['episodes']:,} noisy episodes by the scripted expert (seeds from {made['first_seed']:,}) in "
        f"{made['minutes']} minutes; {made['lifted']:,} ended with the named cube in the air.",
        f"{plan['steps']:,} steps of {plan['batch']} from {log['frames']:,} frames in {log['minutes']} minutes on "
        f"{plan['threads']} shared CPU cores; last losses: {last}.",
        f"Withheld: the state in {plan['state_dropout']:.0%} of the samples, a word (never the colour) with "
        f"{plan['word_dropout']:.0%} chance.",
    ]
