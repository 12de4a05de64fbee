"""What a request and its session can tell the guard besides the chunk. None means not known, and is never guessed.

A client may have sent it, so nothing is believed before D0 and E5 have looked; it can make a verdict stricter or leave rules
unevaluated, never widen a limit. Knows no HTTP and no storage: the control plane fills it, `Guard.check` reads it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RobotState:
    """What the robot reported with the observation. Two arms: the numbers of the left one, then of the right one.

    `q` in rad (joints per arm × arms, without grippers), `ee_position` in m in each arm's base frame (3 × arms), `gripper` in the
    action's own convention (one per gripper; a plain number will do for one).
    """

    q: Numbers | None = None
    ee_position: Numbers | None = None
    gripper: Numbers | float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreviousChunk:
    """The last accepted chunk of this session: what `safety.memory.remembered` made and the control plane kept."""

    actions: NDArray[np.float32]  # (T, D) as returned to the client
    sent_at_s: float  # on the same clock as Context.now_s
    seq: int | None = None
    image_hash: str | None = None
    q: tuple[float, ...] | None = None  # the state reported with it
    ee_position: tuple[float, ...] | None = None
    frozen_count: int = 0  # requests in a row that repeated the pictures and q of the one before (E4)
    frozen_steps: int = 0  # steps of motion that were commanded meanwhile
    tracking_count: int = 0  # requests in a row with the robot far from where it was sent (D8)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenEvidence:
    """Model internals of policies that speak in tokens, one number per generated action token."""

    entropy_nats: Numbers  # H of the distribution over the action bins
    bin_count: int  # how many bins it is over: 256 for OpenVLA


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Context:
    """All that is known about one request. Times of the server are on one clock that only moves forward.

    `executed_index` is the last step of the previous chunk that the robot had executed when it took this observation.
    """

    state: RobotState | None = None
    previous: PreviousChunk | None = None
    seq: int | None = None
    executed_index: int | None = None
    now_s: float | None = None  # when this answer is about to be sent
    obs_age_ms: float | None = None  # client's monotonic clock, at send
    server_ms: float | None = None  # from receipt until now
    network_rtt_ms: float | None = None  # last round trip as the client measured it, without server time
    control_hz: float | None = None  # the rate at which the client says it executes
    image_hash: str | None = None  # of all pictures of this request
    tokens: TokenEvidence | None = None


NOTHING_KNOWN = Context()
