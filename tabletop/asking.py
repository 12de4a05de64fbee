"""Who answers a simulated robot: the service, as a customer asks it, or the same graph in this process.

Both measure each answer and are what `vlaapi_client.ChunkBroker` asks. A limit of the minute is waited out, as the simulation can
stand still meanwhile; what only a person can change ends the run (`Denied`). It knows no scene and no task.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from PIL import Image

from export.contract.preprocess import resize
from tabletop.contract import ACTION, CAMERA, CONTROL_HZ, HORIZON
from tabletop.drive import Policy
from vlaapi_client import Answer, Continue, InvalidRequest, QuotaUsedUp, RateLimited, Refused, Stop, VlaError
from vlaapi_client.results import Action, Timings, Usage, Verdict

_LONGEST_WAIT_S, _WAITS = 65.0, 3
_TICK_S = 1 / CONTROL_HZ


class Denied(RuntimeError):  # noqa: N818 -- reads as what happened
    """The service will answer nothing more with this key or to this request; one line that says why."""


@dataclass(slots=True)
class Measured:
    """What the answers were like. `round_trips_ms` and `service_ms` are per answer; `errors` counts by code."""

    round_trips_ms: list[float] = field(default_factory=list)
    service_ms: list[float] = field(default_factory=list)
    decisions: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)


class Asks(Protocol):
    """What the broker asks, and what it measured."""

    measured: Measured

    def infer(self, pictures: Any, instruction: str, *, deadline_ms: int | None = None, **fields: Any) -> Answer:
        """One inference."""


class Customer:
    """A `Client` or a `Stream` of the SDK."""

    def __init__(self, client: Any, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.measured = Measured()
        self._client, self._sleep = client, sleep

    def infer(self, pictures: Any, instruction: str, *, deadline_ms: int | None = None, **fields: Any) -> Answer:
        """One inference. Raises the SDK's errors, and Denied."""
        for _ in range(_WAITS):
            try:
                answer: Answer = self._client.infer(pictures, instruction, deadline_ms=deadline_ms, **fields)
            except RateLimited as full:
                self.measured.errors[full.code] += 1
                self._sleep(min(_LONGEST_WAIT_S, 1.0 if full.retry_after_s is None else full.retry_after_s))
            except Refused:
                self.measured.decisions["reject"] += 1
                raise
            except (QuotaUsedUp, Stop, InvalidRequest) as final:
                raise Denied(str(final)) from None
            except VlaError as error:
                self.measured.errors[error.code] += 1
                if not isinstance(error, Continue):
                    self._sleep(_TICK_S)  # a service that is away is away in real time, so holding takes real time too
                raise
            else:
                self.measured.round_trips_ms.append(answer.timings.round_trip_ms)
                self.measured.service_ms.append(answer.timings.total_ms)
                self.measured.decisions[answer.verdict.decision] += 1
                return answer
        raise Denied("the key's limit of the minute stays used up: something else uses this customer")


class InProcess:
    """The graph without service and guard: what the service is compared with."""

    def __init__(self, policy: Policy) -> None:
        self.measured = Measured()
        self._policy = policy

    def infer(self, pictures: Any, instruction: str, *, deadline_ms: int | None = None, **fields: Any) -> Answer:
        """One forward; `deadline_ms` and what only a guard reads are ignored."""
        del deadline_ms
        began_s = time.monotonic()
        state = fields.get("state")
        picture = resize(Image.fromarray(pictures), CAMERA)
        chunk = self._policy.ask(picture, instruction, None if state is None else np.asarray(state, dtype=np.float32))
        taken_ms = 1e3 * (time.monotonic() - began_s)
        self.measured.round_trips_ms.append(taken_ms)
        self.measured.service_ms.append(taken_ms)
        self.measured.decisions["unguarded"] += 1
        return _answer(chunk, taken_ms)


def _answer(chunk: np.ndarray, taken_ms: float) -> Answer:
    action = Action(
        values=chunk[0],
        chunk=chunk,
        kind=str(ACTION.kind),
        names=ACTION.names,
        units=ACTION.units,
        frame=ACTION.frame,
        horizon=HORIZON,
        control_hz=CONTROL_HZ,
    )
    verdict = Verdict("unguarded", 0.0, None, True, 0, 0, "none", ())  # noqa: FBT003 -- the SDK's own order
    return Answer(
        request_id="here",
        model="here",
        model_version="0",
        robot_type="franka_panda",
        session_id=None,
        seq=None,
        action=action,
        verdict=verdict,
        is_modified=False,
        truncated_at=None,
        expires_in_ms=None,
        refused_for=None,
        fallback=None,
        timings=Timings(stages_ms={}, total_ms=taken_ms, round_trip_ms=taken_ms),
        usage=Usage(None, None, None),
        rate_limit=None,  # type: ignore[arg-type]  # there is none here
    )
