"""Records episodes of an exported graph in closed loop, as files that `vlaapi safety calibrate` reads (docs/CALIBRATION.md).

One .npz per episode: every chunk the policy gave, after which step of each the next one was asked for, and whether the named cube
was lifted and no other. It knows no guard: what the numbers are good for is decided where they are read.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tabletop.appearance import Appearance
from tabletop.demos import as_seen
from tabletop.drive import Policy
from tabletop.evaluate import FIRST_SEED, MAX_STEPS, Condition, say
from tabletop.instructions import COLOURS
from tabletop.render import Camera
from tabletop.scene import Tabletop

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
    table = Tabletop()
    appearance = Appearance(table)
    succeeded = 0
    with Camera(table, size_px=condition.picture_px) as camera:
        for seed in range(FIRST_ROLLOUT, FIRST_ROLLOUT + episodes):
            table.reset(seed)
            appearance.vary(seed, camera_bump=condition.camera_bump)
            recording = _episode(table, camera, policy, condition, seed)
            recording.save(folder / f"seed-{seed}.npz")
            succeeded += recording.is_success
    return succeeded


def _episode(table: Tabletop, camera: Camera, policy: Policy, condition: Condition, seed: int) -> Recording:
    random = np.random.default_rng((seed, 13))
    named = COLOURS[int(random.integers(len(COLOURS)))]
    instruction = say(named, condition.wording, random)
    chunks: list[NDArray[np.float32]] = []
    is_success = is_over = False
    while not is_over and len(chunks) * condition.execute < MAX_STEPS:
        picture = as_seen(camera.picture(), jpeg_quality=condition.jpeg_quality)
        chunks.append(policy.ask(picture, instruction, table.state if condition.has_state else None))
        for action in chunks[-1][: condition.execute]:
            table.apply(action)
        lifted = {colour for colour in COLOURS if table.view.is_lifted(colour)}
        is_success, is_over = lifted == {named}, bool(lifted)
    executed = np.full(len(chunks) - 1, condition.execute - 1, dtype=np.int64)
    return Recording(chunks=np.stack(chunks), executed_index=executed, is_success=is_success)
