"""A bundle's runner in this process: the same file that Triton loads, so that what is proven is what is served.

Used by `verify` and `publish`. It judges nothing and knows no policy; a runner whose runtime is not installed here is refused in
one sentence.
"""

import importlib.util
from collections.abc import Callable, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any, Protocol

import numpy as np

from export.contract.manifest import Manifest
from export.contract.runtime import Variant
from export.parity import Arrays

Rows = np.ndarray[Any, np.dtype[np.int64]]  # indices of examples
BACKEND = Path(__file__).parent / "python_backend"
# A plan that Triton runs itself is proven by our own runner: the same file, on the same GPU.
_PROVEN_BY = {"tensorrt_plan": "tensorrt_engine"}
# Files that a runner loads from its own folder; they are served beside it.
_PARTS = {"openvla_decode": ("openvla_steps",), "openvla_plans": ("openvla_steps", "tensorrt_engine")}


class Runner(Protocol):
    """What a file of `export/python_backend` offers. `ERRORS` are what a bad input may raise."""

    ERRORS: tuple[type[Exception], ...]

    def run(self, inputs: dict[str, np.ndarray[Any, Any]], outputs: Sequence[str]) -> list[np.ndarray[Any, Any]]:
        """Arrays by name, batch first, in the order of `outputs`."""


class _Source(SourceFileLoader):
    """Compiles the file itself. Bytecode in `__pycache__` is in no manifest: what ran would not be what was hashed."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class RunnerUnavailable(Exception):  # noqa: N818 -- reads as what happened
    """What a runner needs is not on this machine; the text says what, and that a Triton can still be asked."""


class RunFailed(Exception):  # noqa: N818 -- reads as what happened
    """The runner refused inputs that the original network answered."""


def runner_file(variant: Variant) -> Path:
    """Where a variant's runner stands in the source. Raises RunnerUnavailable when there is none of that name."""
    path = BACKEND / f"{_PROVEN_BY.get(variant.runner, variant.runner)}.py"
    if not path.is_file():
        raise RunnerUnavailable(f"variant {variant.name}: there is no runner {variant.runner!r} in export/python_backend")
    return path


def parts_of(variant: Variant) -> tuple[Path, ...]:
    """The files that a variant's runner wants beside itself."""
    return tuple(BACKEND / f"{name}.py" for name in _PARTS.get(variant.runner, ()))


def open_runner(file: Path, folder: Path, variant: Variant) -> Runner:
    """The runner in `file` with the variant's files in `folder`. Raises RunnerUnavailable."""
    name = f"runner_of_{variant.runner}"
    loader = _Source(name, str(file))
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    if spec is None or not file.is_file():
        raise RunnerUnavailable(f"variant {variant.name}: {file} is no runner")
    module = importlib.util.module_from_spec(spec)
    try:
        loader.exec_module(module)
    except ImportError as error:
        raise _unavailable(variant, error) from None
    try:
        found: Runner = module.Runner(folder, variant.parameters)
    except (OSError, RuntimeError, *module.Runner.ERRORS) as error:  # a precision that this processor lacks is one of its own
        raise _unavailable(variant, error) from None
    return found


def _unavailable(variant: Variant, error: Exception) -> RunnerUnavailable:
    reason = str(error).partition("\n")[0]
    return RunnerUnavailable(f"variant {variant.name} does not run here ({reason}): prove it with --triton HOST:PORT")


def answers(runner: Runner, manifest: Manifest, inputs: Arrays, *, rows: list[Rows], tick: Callable[[], None]) -> Arrays:
    """The runner's answers in the examples' own order; `rows` says which go together, each example once. Raises RunFailed."""
    names = [output.tensor for output in manifest.outputs]
    parts = []
    for group in rows:
        try:
            parts.append(runner.run({name: value[group] for name, value in inputs.items()}, names))
        except runner.ERRORS as error:
            raise RunFailed(f"golden vectors {group.tolist()}: {type(error).__name__}: {error}".partition("\n")[0]) from None
        tick()
    order = np.argsort(np.concatenate(rows))
    return {name: np.concatenate([part[index] for part in parts])[order] for index, name in enumerate(names)}


def groups(count: int, size: int) -> list[Rows]:
    """All of `count` examples in batches of `size`; in a fixed shuffle, so that long and short prompts meet."""
    order = np.arange(count) if size == 1 else np.random.default_rng(29).permutation(count)
    return [order[start : start + size] for start in range(0, count, size)]
