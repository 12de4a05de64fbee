"""Records episodes of an exported graph in closed loop, as files that `vlaapi safety calibrate` reads (docs/CALIBRATION.md).

One .npz per episode: every chunk the policy gave, after which step of each the next one was asked for, and whether what was
asked for was done, and to nothing else. It knows no guard: what the numbers are good for is decided where they are read.
"""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tabletop.demos import as_seen
from tabletop.drive import Policy
from tabletop.env import MAX_STEPS, TabletopEnv
from tabletop.evaluate import FIRST_SEED, Condition
from tabletop.world import FRONT

FIRST_ROLLOUT = FIRST_SEED + 500_000  # scenes of neither training nor the card


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One episode. `chunks` (N, 8, 7) float32; `executed_index` (N − 1,)."""

    chunks: NDArray[np.float32]
    executed_index: NDArray[np.int64]
    is_success: bool

    def save(self, path: Path) -> None:
        """Writes the .npz."""
        np.savez_compressed(path, chunks=self.chunks, executed_index=self.executed_index, is_success=np.array(self.is_success))


def record(policy: Policy, folder: Path, episodes: int, condition: Condition) -> int:
    """Writes one file per episode into `folder`; returns how many succeeded."""
    folder.mkdir(parents=True, exist_ok=True)
    succeeded = 0
    with closing(condition.opened()) as env:
        for seed in range(FIRST_ROLLOUT, FIRST_ROLLOUT + episodes):
            recording = _episode(env, policy, condition, seed)
            recording.save(folder / f"seed-{seed}.npz")
            succeeded += recording.is_success
    return succeeded


def _episode(env: TabletopEnv, policy: Policy, condition: Condition, seed: int) -> Recording:
    observation, info = env.reset(seed=seed)
    chunks: list[NDArray[np.float32]] = []
    is_over = False
    while not is_over and len(chunks) * condition.execute < MAX_STEPS:
        picture = as_seen(observation[FRONT], jpeg_quality=condition.jpeg_quality)
        chunks.append(policy.ask(picture, info["instruction"], observation["state"] if condition.has_state else None))
        for action in chunks[-1][: condition.execute]:
            observation, _, _, _, info = env.step(action)
        is_over = info["is_success"] or info["is_wrong"]
    executed = np.full(len(chunks) - 1, condition.execute - 1, dtype=np.int64)
    return Recording(chunks=np.stack(chunks), executed_index=executed, is_success=info["is_success"] and not info["is_wrong"])
