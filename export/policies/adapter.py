"""What a policy family offers to `export.publish`, and how its failures look.

A family is a module (or package) of `export.policies` with `open_checkpoint(options) -> Policy`. It knows its own network and
checkpoint layout; it knows no model repository, no Triton and no command line. `publish` knows no family.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from export.contract.facts import ActionKind
from export.contract.manifest import Manifest
from export.onnx import Graph


class CheckpointError(Exception):
    """A checkpoint that cannot be exported: one line that says what is wrong and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointOptions:
    """What the operator says about a checkpoint. None means: as the checkpoint says, or a CheckpointError where it is silent."""

    checkpoint: Path
    name: str
    robots: tuple[str, ...]
    robots_are_assumed: bool = False  # the family's own, because the operator named none
    unnorm_keys: tuple[str, ...] | None = None  # all of them
    control_hz: float | None = None
    licence: str | None = None
    kind: ActionKind | None = None
    crop_area: float | None = None  # of every camera
    rotate_180: bool = False

    def command(self, family: str, *, version: int) -> str:
        """What makes the bundle again: every option that was given, ready for a shell; the checkpoint as its folder is called."""
        words = ["--checkpoint", self.checkpoint.resolve().name, "--name", self.name, *self._words()]
        words += ["--version", str(version)] if version != 1 else []
        return shlex.join(["vlaapi", "export", family, *words])

    def _words(self) -> Iterator[str]:
        for robot in self.robots:
            yield from ("--robot", robot)
        for key in self.unnorm_keys or ():
            yield from ("--unnorm-key", key)
        if self.control_hz is not None:
            yield from ("--control-hz", _number(self.control_hz))
        if self.licence is not None:
            yield from ("--licence", self.licence)
        if self.kind is not None:
            yield from ("--kind", self.kind.value)
        if self.crop_area is not None:
            yield from ("--crop-area", _number(self.crop_area))
        if self.rotate_180:
            yield "--rotate-180"


def _number(value: float) -> str:
    """All its digits: it must come back the same."""
    return repr(value).removesuffix(".0")


class Policy(Protocol):
    """One opened checkpoint of one family."""

    def manifest(self, *, version: int, sha256: dict[str, str]) -> Manifest:
        """The facts; `sha256` is per file of the bundle, empty before the files exist."""

    def examples(self) -> dict[str, Tensor]:
        """Wire inputs by tensor name, batch first, the same every time; of a token policy at least 64 image/instruction pairs."""

    def answers(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """What the original network answers in PyTorch fp32: one tensor per output of the manifest, in its order."""

    def graphs(self) -> tuple[Graph, ...]:
        """The ONNX files that are served."""

    def runner(self) -> Path:
        """The runner that serves them: a file of `export/python_backend`."""

    def files(self) -> dict[str, Path | bytes]:
        """What travels along beside the manifest, by file name: `tokenizer.json`, …"""

    def evaluation_file(self) -> Path | None:
        """Where this family's closed-loop evaluation writes its numbers; the file need not exist."""
