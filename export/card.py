"""The model card of a bundle: what it is, where it came from, how it was proven and how well it does, in one Markdown page.

Every number is read from the manifest, the parity run or the evaluation's JSON; none is typed here. An evaluation of another
graph is not shown: the card says that this one was not measured.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.benchmark.card_lines import card_lines
from export.contract.manifest import Manifest
from export.parity import Agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What the page is made of. `evaluation` is what `vlaapi tabletop eval` writes, `benchmark` what `export benchmark` does."""

    manifest: Manifest
    agreements: tuple[Agreement, ...]
    evaluation: Path
    benchmark: Path | None = None

    def text(self) -> str:
        """The page."""
        measured = (*_parity(self.agreements), *self._speed(), *self._closed_loop())
        return "\n".join((*_facts(self.manifest), *measured, *_hashes(self.manifest), ""))

    def _speed(self) -> list[str]:
        served = f"{self.manifest.version}/{self.manifest.served_variant.files[0]}"
        return [] if self.benchmark is None else card_lines(self.benchmark, self.manifest.source.sha256[served])

    def _closed_loop(self) -> list[str]:
        model = self.manifest.source.sha256[f"{self.manifest.version}/model.onnx"]
        found: dict[str, Any] = json.loads(self.evaluation.read_text()) if self.evaluation.exists() else {}
        if found.get("model_sha256") != model:
            return ["## Closed loop", "", "Not measured for this graph.", ""]
        return [*_episodes(found), *_directions(found), *_training(found), *_limits(found)]


def _facts(manifest: Manifest) -> list[str]:
    action, state = manifest.action, manifest.state
    cameras = ", ".join(f"`{camera.name}` {camera.width}×{camera.height} ({camera.resize.value})" for camera in manifest.cameras)
    names = ", ".join(f"{name} ({unit})" for name, unit in zip(action.names, action.units, strict=True))
    return [
        f"# {manifest.policy}, version {manifest.version}",
        "",
        "<!-- Written by `vlaapi export`; change export/card.py, not this file. -->",
        "",
        manifest.description,
        "",
        "| | |",
        "|---|---|",
        f"| Weights | `{manifest.source.checkpoint}`, {manifest.source.licence} |",
        f"| Made again by | `{manifest.source.command}` |",
        f"| Robots | {', '.join(manifest.robots)} |",
        f"| Cameras | {cameras} |",
        f"| State | {'none' if state is None else _state(state.names, state.units, is_required=state.is_required)} |",
        f"| Action | {action.kind.value} in `{action.frame}`: {names} |",
        f"| Gripper | {action.gripper_polarity.value if action.gripper_polarity else 'none'} |",
        f"| Chunk | {action.horizon} steps at {action.control_hz:g} Hz |",
        f"| Runtimes | {', '.join(variant.name for variant in manifest.variants)} |",
        "",
    ]


def _state(names: tuple[str, ...], units: tuple[str, ...], *, is_required: bool) -> str:
    listed = ", ".join(f"{name} ({unit})" for name, unit in zip(names, units, strict=True))
    return f"{'required' if is_required else 'optional'}: {listed}"


def _parity(agreements: tuple[Agreement, ...]) -> list[str]:
    rows = [f"| `{one.tensor}` | {one.max_abs_difference:.1e} | {one.atol:.0e} |" for one in agreements]
    return [
        "## Parity",
        "",
        "PyTorch against ONNX Runtime on the golden vectors, one at a time and all at once; the largest difference counts.",
        "",
        "| output | difference | allowed |",
        "|---|---|---|",
        *rows,
        "",
    ]


def _episodes(found: dict[str, Any]) -> list[str]:
    rows = [
        f"| {row['name']} | {row['lifted_named']} / {row['episodes']} | {row['lifted_wrong']} | {row['mean_steps']} |"
        for row in found["closed_loop"]
    ]
    return [
        "## Closed loop",
        "",
        f"New scenes (seeds from {found['first_seed']}), light, colours and camera jittered, at most {found['max_steps']} steps",
        "of 0.1 s; a run succeeds when the named cube is 6 cm up. Unless said otherwise: pictures of 224×224, the words",
        "“pick up red cube” (or green, blue), and half of each chunk executed before the next picture.",
        "",
        "| condition | named cube lifted | another cube lifted | mean steps |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


def _directions(found: dict[str, Any]) -> list[str]:
    rows = [f"| {row['name']} | {row['right']} / {row['asked']} |" for row in found["first_motion"]]
    return [
        "## First motion",
        "",
        "From one picture, each of the three cubes is named in turn; right means the first chunk heads for the named one.",
        "",
        "| condition | right |",
        "|---|---|",
        *rows,
        "",
    ]


def _training(found: dict[str, Any]) -> list[str]:
    return ["## Training", "", *(f"- {line}" for line in found["training"]), ""]


def _limits(found: dict[str, Any]) -> list[str]:
    return ["## Limits", "", *(f"- {line}" for line in found["limits"]), ""]


def _hashes(manifest: Manifest) -> list[str]:
    rows = [f"| `{name}` | `{digest}` |" for name, digest in manifest.source.sha256.items()]
    return ["## Files", "", "| file | SHA-256 |", "|---|---|", *rows]
