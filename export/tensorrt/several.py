"""Policies of several graphs: which runner owns their plans, and which sizes each graph is run with.

A family whose graphs pass things to each other has a line here; one forward of one graph needs none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from export.contract.runtime import Variant
from export.tensorrt.library import EngineError

Cases = Mapping[str, tuple[dict[str, int], ...]]  # by the graph's file: sizes of free axes, one profile each


@dataclass(frozen=True, slots=True, kw_only=True)
class Several:
    """`runner` of `export/python_backend` owns all plans; `cases` come from the ONNX variant and its tokens per answer."""

    runner: str
    cases: Callable[[Variant, int], Cases]
    kept_parameters: tuple[str, ...]


def _decoding(variant: Variant, tokens: int) -> Cases:
    """A prompt is read once, without a past (one place, masked); then tokens one by one, each seeing all before it."""
    if "patches" not in variant.parameters:
        raise EngineError(f"variant {variant.name} does not say how many patches a picture has: export the policy again")
    buckets = [int(bucket) for bucket in variant.parameters["buckets"].split(",")]
    places = [int(variant.parameters["patches"]) + bucket for bucket in buckets]
    return {
        "prompt.onnx": tuple({"words": bucket} for bucket in buckets),
        "continue.onnx": tuple(
            case for place in places for case in ({"new": place, "earlier": 1}, {"new": 1, "earlier": place + tokens - 1})
        ),
    }


SEVERAL: Mapping[str, Several] = MappingProxyType(
    {"openvla_decode": Several(runner="openvla_plans", cases=_decoding, kept_parameters=("buckets", "pad_id", "patches"))}
)
