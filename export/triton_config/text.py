"""Triton's message as a file that a person can read: one line for what fits on one, fields in the order one asks for them.

The same message gives the same bytes. It knows protobuf's text format and nothing of what the fields mean.
"""

from collections.abc import Iterator

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

WIDTH = 130
# What it is, what goes in and out, how it is scheduled, how it runs; fields that are not named here follow.
ORDER = (
    "name",
    "platform",
    "backend",
    "max_batch_size",
    "input",
    "output",
    "version_policy",
    "instance_group",
    "dynamic_batching",
    "optimization",
    "cc_model_filenames",
    "response_cache",
    "model_metrics",
    "metric_tags",
    "model_warmup",
    "parameters",
)


def text_of(message: ModelConfig, comments: tuple[str, ...]) -> str:
    """The file's text, `comments` first, a line each."""
    names = [field.name for field, _ in message.ListFields()]
    ordered = sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    lines = [line for name in ordered for line in _field(message, name)]
    return "\n".join([*(f"# {comment}" for comment in comments), *lines]) + "\n"


def _field(message: ModelConfig, name: str) -> Iterator[str]:
    """One top-level field as protobuf prints it, its blocks folded."""
    alone = ModelConfig()
    part = getattr(message, name)
    if message.DESCRIPTOR.fields_by_name[name].message_type is None:
        setattr(alone, name, part)
    else:
        getattr(alone, name).MergeFrom(part)
        if not alone.ListFields():
            getattr(alone, name).SetInParent()  # a block that says its defaults is there all the same
    lines = text_format.MessageToString(alone, use_short_repeated_primitives=True).splitlines()
    yield from _folded(lines)


def _folded(lines: list[str]) -> Iterator[str]:
    """Blocks that fit on one line, on one line."""
    start = 0
    while start < len(lines):
        end = _end_of_block(lines, start)
        joined = " ".join([lines[start], *(line.strip() for line in lines[start + 1 : end])])
        if len(joined) <= WIDTH:
            yield joined
        else:
            yield lines[start]
            yield from _folded(lines[start + 1 : end - 1])
            yield lines[end - 1]
        start = end


def _end_of_block(lines: list[str], start: int) -> int:
    """One past the last line of what begins at `start`; its closing brace stands at the same depth."""
    if not lines[start].endswith("{"):
        return start + 1
    depth = len(lines[start]) - len(lines[start].lstrip())
    return lines.index(f"{' ' * depth}}}", start) + 1
