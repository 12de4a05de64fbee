"""One captured request as a value and its bytes: what the robot saw, was told and was answered, and under which terms it is kept.

The pictures are the caller's own bytes, never decoded here. A shipper of an older release refuses what it does not know.
"""

from typing import Literal
from uuid import UUID

import msgspec

SCHEMA = 1

Kind = Literal["jpg", "png", "webp", "rgb"]  # rgb: bare pixels of a door that sends no files; they become a PNG in the worker


class Shot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One camera's picture. `shape` of bare pixels: (height, width)."""

    camera: str
    kind: Kind
    data: bytes
    shape: tuple[int, int] | None = None


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """What the numbers of a policy mean; the same for all its samples."""

    action: tuple[str, ...]
    action_kind: str
    state: tuple[str, ...]
    control_hz: float


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Under what it is kept: the policy in force, its version, who agreed, for how many days."""

    policy: str
    version: int
    consent_id: UUID | None
    keep_days: int


class Sample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`kept_because` is empty where only feedback would keep it. `action` is None where the guard let no motion through."""

    schema: int = SCHEMA
    request_id: UUID
    customer_id: UUID
    terms: Terms
    model: str
    model_version: int
    robot_type: str
    words: Words
    instruction: str
    shots: tuple[Shot, ...]
    is_whole: bool  # the sampling keeps the whole session
    kept_because: tuple[str, ...] = ()
    state: list[float] | None = None
    action: list[list[float]] | None = None
    raw_action: list[list[float]] | None = None
    decision: str | None = None
    safety_score: float | None = None
    limiting_rule: str | None = None
    entropy: float | None = None
    unnorm_key: str | None = None
    session_id: str | None = None
    seq: int | None = None
    obs_age_ms: float | None = None
    is_test: bool = False


class SampleError(ValueError):
    """Bytes that are not a sample of this release."""


_ENCODER = msgspec.msgpack.Encoder(uuid_format="bytes")
_DECODER = msgspec.msgpack.Decoder(Sample)


def encode(sample: Sample) -> bytes:
    """The sample's bytes."""
    return _ENCODER.encode(sample)


def decode(payload: bytes) -> Sample:
    """The sample in these bytes. Raises SampleError."""
    try:
        sample = _DECODER.decode(payload)
    except (msgspec.DecodeError, ValueError) as error:
        raise SampleError(str(error)) from None
    if sample.schema != SCHEMA:
        raise SampleError(f"schema {sample.schema}")
    return sample
