"""Closed-loop episodes of the served tabletop policy: the simulator asks Triton for every chunk, as a robot would.

Fixed scenes that training never saw. The only place where a benchmark meets the simulator; needs off-screen OpenGL.
"""

import asyncio
from pathlib import Path

import numpy as np
import tritonclient.grpc.aio as triton

from export.benchmark.failure import NotHere
from export.benchmark.result import Episodes
from export.contract.manifest import load_manifest
from export.contract.tokenize import InstructionTokenizer
from export.served import ask
from tabletop.drive import Inputs, Policy
from tabletop.evaluate import FIRST_SEED, Condition, Trial
from tabletop.render import RenderUnavailable
from tabletop.things import Layout
from tabletop.verbs import Verb

ENVIRONMENT = "tabletop, every task, state sent, pictures of 224×224"


def drive(folder: Path, episodes: int, address: str) -> Episodes:
    """`episodes` scenes through the Triton at `address`. Raises NotHere where nothing can be drawn."""
    manifest = load_manifest(folder)
    if manifest.instruction is None:
        raise NotHere(f"{manifest.policy} takes no instruction, so it cannot be told what to do")
    tokenizer = InstructionTokenizer(folder, manifest.instruction)
    with asyncio.Runner() as loop:
        client = loop.run(_connected(address))

        def network(inputs: Inputs) -> np.ndarray:
            return np.asarray(loop.run(ask(client, manifest, inputs))[manifest.action.tensor], dtype=np.float32)

        try:
            runs = _trial(Policy(network=network, tokenizer=tokenizer), episodes).run()
        except RenderUnavailable as unavailable:
            raise NotHere(f"closed loop: {unavailable}") from None
        finally:
            loop.run(client.close())
    steps = [count for is_named, _, count in runs if is_named]
    return Episodes(
        environment=ENVIRONMENT,
        episodes=len(runs),
        succeeded=len(steps),
        mean_steps=float(np.mean(steps)) if steps else None,
    )


def _trial(policy: Policy, episodes: int) -> Trial:
    return Trial(
        make_policy=lambda: policy,
        condition=Condition(name=ENVIRONMENT, layout=Layout.VARIED, verbs=tuple(Verb)),
        seeds=range(FIRST_SEED, FIRST_SEED + episodes),
    )


async def _connected(address: str) -> triton.InferenceServerClient:
    """A client belongs to the loop that it is made in."""
    return triton.InferenceServerClient(address)
