"""The graphs that are built with TensorRT in the tests: one line per family, its float32 graphs and examples for them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from export.golden import load_golden
from export.tensorrt.profiles import Range
from tests.export.precision.networks import Exported

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """`graphs` writes into a folder what is not there yet. `axes` are sizes of free axes beside the batch."""

    name: str
    graphs: Callable[[Path], tuple[Exported, ...]]
    axes: dict[str, Range]


def tabletop(_: Path) -> tuple[Exported, ...]:
    """The shipped bundle."""
    folder = ROOT / "model_repository" / "tabletop"
    return (Exported(path=folder / "1" / "model.onnx", inputs=load_golden(folder).inputs),)


FAMILIES = (Family(name="tabletop", graphs=tabletop, axes={}),)
