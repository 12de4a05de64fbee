"""Golden vectors: frozen inputs of a policy and the original network's answers to them, stored with the bundle.

They are what parity is proven with at export, and what `verify` runs again at any time. numpy only.
"""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from export.bundle import GOLDEN_FILE
from export.contract.manifest import Manifest
from export.contract.wire import WireTensor, inputs_of, outputs_of
from export.parity import Arrays

MIN_TOKEN_PAIRS = 64


class GoldenUnfit(Exception):  # noqa: N818 -- reads as what happened
    """Golden vectors that prove too little, or not this policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Inputs, and the original network's answers to them; batch first."""

    inputs: Arrays
    outputs: Arrays

    @property
    def count(self) -> int:
        """How many examples there are."""
        return len(next(iter(self.inputs.values())))

    def save(self, folder: Path) -> None:
        """Writes a compressed file; the same arrays give the same bytes."""
        inputs = {f"in.{name}": value for name, value in self.inputs.items()}
        outputs = {f"out.{name}": value for name, value in self.outputs.items()}
        np.savez_compressed(folder / GOLDEN_FILE, allow_pickle=False, **inputs, **outputs)

    def refuse_unfit(self, manifest: Manifest) -> None:
        """Raises GoldenUnfit unless they are the manifest's tensors, and enough different pairs where the policy has tokens."""
        faults = [*_differences(self.inputs, inputs_of(manifest)), *_differences(self.outputs, outputs_of(manifest))]
        if not faults and len({len(value) for value in (self.inputs | self.outputs).values()}) != 1:
            faults.append("arrays differ in how many examples they hold")
        if not faults and not self.count:
            faults.append("no examples")
        if not faults and manifest.tokens is not None and self._different() < MIN_TOKEN_PAIRS:
            faults.append(f"{self._different()} different image/instruction pairs, a token policy needs {MIN_TOKEN_PAIRS}")
        if faults:
            raise GoldenUnfit(f"golden vectors: {'; '.join(faults)}")

    def _different(self) -> int:
        return len({b"".join(value[row].tobytes() for value in self.inputs.values()) for row in range(self.count)})


def load_golden(folder: Path) -> Golden:
    """The golden vectors of a bundle. Raises GoldenUnfit when there are none."""
    try:
        with np.load(folder / GOLDEN_FILE, allow_pickle=False) as arrays:
            return Golden(
                inputs={name.removeprefix("in."): arrays[name] for name in arrays if name.startswith("in.")},
                outputs={name.removeprefix("out."): arrays[name] for name in arrays if name.startswith("out.")},
            )
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise GoldenUnfit(f"golden vectors: {folder / GOLDEN_FILE} cannot be read: {error}") from None


def _differences(found: Arrays, wanted: tuple[WireTensor, ...]) -> list[str]:
    faults = [f"{one.name} is missing" for one in wanted if one.name not in found]
    faults += [f"{name} is not in the manifest" for name in found if name not in {one.name for one in wanted}]
    for one in wanted:
        value = found.get(one.name)
        if value is not None and (str(value.dtype), value.shape[1:]) != (one.dtype, one.shape):
            faults.append(f"{one.name} is {value.dtype} {value.shape[1:]}, the manifest says {one.dtype} {one.shape}")
    return faults
