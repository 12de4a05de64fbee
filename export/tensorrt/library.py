"""Finds an installed TensorRT, whichever it is, and the compute capability that a plan shall be for.

TensorRT and TensorRT-RTX share one Python interface under different names. It builds nothing.
"""

import importlib
from dataclasses import dataclass
from enum import StrEnum
from types import ModuleType
from typing import Any

from export.python_backend.tensorrt_engine import Gpu


class EngineError(Exception):
    """A plan that was not built, or must not be used; one line that says what to do."""


class Flavour(StrEnum):
    """Which TensorRT. Plans of one are nothing to the other."""

    TENSORRT = "tensorrt"
    RTX = "tensorrt_rtx"


_MODULES = {
    Flavour.TENSORRT: ("tensorrt", "tensorrt_bindings"),
    Flavour.RTX: ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
_ADVICE = {
    Flavour.TENSORRT: "run this inside the Triton image that will serve the plan, or `pip install tensorrt` in its version",
    Flavour.RTX: "`make tensorrt-rtx` installs it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """One installed TensorRT; `trt` is its Python module."""

    trt: ModuleType
    flavour: Flavour

    @property
    def version(self) -> str:
        """As the library names itself: a plan loads under exactly this one."""
        return str(self.trt.__version__)

    def network_flags(self) -> int:
        """Strong typing. It is the only kind from 11 on and in RTX, where asking for it is deprecated."""
        if self.flavour is Flavour.RTX or int(self.version.partition(".")[0]) > 10:
            return 0
        return 1 << int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def open_library(flavour: Flavour) -> Library:
    """Imports TensorRT. Raises EngineError naming what is missing and how to get it."""
    reasons = []
    for name in _MODULES[flavour]:
        try:
            return Library(trt=importlib.import_module(name), flavour=flavour)
        except ModuleNotFoundError as error:
            reasons.append(f"no module {error.name}")
        except (ImportError, OSError) as error:  # the bindings are there and their libraries are not
            reasons.append(str(error).splitlines()[0])
    raise EngineError(f"{flavour} is not installed here ({'; '.join(dict.fromkeys(reasons))}): {_ADVICE[flavour]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a plan is for. `gpu` is None where it is built for a compute capability that is not in this machine."""

    capability: str  # "8.9"
    gpu: Gpu | None

    @property
    def suffix(self) -> str:
        """As it stands in file names: "sm89"."""
        return f"sm{self.capability.replace('.', '')}"


def devices(library: Library, gpu: Gpu | None, capabilities: tuple[str, ...]) -> tuple[Device, ...]:
    """The GPU in this machine, or with TensorRT-RTX any capability it knows. Raises EngineError."""
    if not capabilities:
        if gpu is None:
            raise EngineError(
                "no NVIDIA GPU is visible here, and a plan is built on the GPU that will run it; "
                "without one: `--target rtx --compute-capability 8.9`"
            )
        return (Device(capability=gpu.compute_capability, gpu=gpu),)
    if library.flavour is not Flavour.RTX:
        raise EngineError("--compute-capability is for --target rtx: TensorRT builds for the GPU it runs on")
    known = known_capabilities(library)
    for capability in capabilities:
        if capability not in known:
            raise EngineError(
                f"TensorRT-RTX {library.version} has no compute capability {capability}; it knows {', '.join(known)}"
            )
    return tuple(Device(capability=one, gpu=gpu if gpu and gpu.compute_capability == one else None) for one in capabilities)


def known_capabilities(library: Library) -> tuple[str, ...]:
    """What TensorRT-RTX can build for: ("7.5", "8.0", …)."""
    names: dict[str, Any] = library.trt.ComputeCapability.__members__
    digits = [name.removeprefix("SM") for name in names if name.startswith("SM")]
    return tuple(f"{one[:-1]}.{one[-1]}" for one in sorted(digits, key=int))
