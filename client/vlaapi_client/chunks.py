"""Motion without pauses: the next chunk is asked for while the current one is still being executed.

A control loop calls `step` at its own rate with what it sees; one thread behind it does the asking, one request at a time, always
with the newest observation. When the next chunk is late the robot holds; when it comes, what has been executed meanwhile is
skipped (`timeline` has the rules). What an error does: Stop and InvalidRequest are raised from the next `step`, because no later
observation will do better; Refused holds at once; whatever may pass rides on the current chunk, then holds, and is asked again.
"""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Protocol

from vlaapi_client.calls import Fields, Numbers, Pictures
from vlaapi_client.errors import Continue, Hold, InvalidRequest, Refused, Stop, VlaError
from vlaapi_client.results import Answer
from vlaapi_client.timeline import Due, Given, Ticket, Timeline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self, Unpack

MAX_AGE_S = 2.0
PAUSE_S = 0.05  # after an error that says nothing of when to come back
Submit = Callable[[Callable[[], None]], Any]


class Asks(Protocol):
    """What the broker needs of a client."""

    def infer(self, pictures: Pictures, instruction: str, *, deadline_ms: int | None = None, **fields: Unpack[Fields]) -> Answer:
        """One inference."""


@dataclass(frozen=True)
class Plan:
    """How a broker works.

    ask_when_left   share of a chunk that is still to come when the next one is asked for
    max_age_s       nothing older than this, from its observation on, is executed
    blend_steps     over how many steps to cross-fade into a new chunk; 0, off: the guard has checked chunks, not mixtures
    deadline_ms     of each request; None: the client's
    fields          sent with every request: `model`, `robot_type`, `unnorm_key`, `safety`
    """

    ask_when_left: float = 0.5
    max_age_s: float = MAX_AGE_S
    blend_steps: int = 0
    deadline_ms: int | None = None
    fields: Fields = field(default_factory=lambda: Fields())


@dataclass(frozen=True, eq=False)
class Step:
    """What the control loop gets. `values` is None unless `due` is MOVE, so that a loop which does not look fails, not moves.

    `answer` is the answer that the step comes from, `error` why there is none; both are for logs.
    """

    due: Due
    values: NDArray[np.float32] | None
    index: int | None
    answer: Answer | None
    error: VlaError | None


class ChunkBroker:
    """One robot's stream of steps. Use as a context manager, or `close` it. Safe to share by threads."""

    def __init__(
        self,
        client: Asks,
        instruction: str,
        plan: Plan | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.monotonic,
        submit: Submit | None = None,
    ) -> None:
        self._client, self._instruction, self._plan = client, instruction, plan or Plan()
        self._clock, self._wall = clock, wall
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vlaapi") if submit is None else None
        self._submit: Submit = self._thread.submit if self._thread else submit or _never
        self._changed = threading.Condition()
        self._begin()

    def step(self, pictures: Pictures, state: Numbers | None = None, *, age_s: float = 0.0) -> Step:
        """What to do now, given what the robot sees now. Never waits for the network.

        `age_s` is how old the observation is already. Raises Stop and InvalidRequest.
        """
        with self._changed:
            self._raise_fatal()
            now_s = self._clock()
            if self._may_ask(now_s):
                self._ask(pictures, state, self._timeline.observe(now_s - age_s), self._wall() - age_s)
            return self._step(self._timeline.step(now_s))

    def wait(self, timeout_s: float) -> bool:
        """Waits until no request is in flight; says whether that came to pass."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_asking, timeout_s)

    def reset(self, instruction: str | None = None) -> None:
        """A new episode: what is left of the old motion is dropped, an answer on its way is ignored."""
        with self._changed:
            self._instruction = self._instruction if instruction is None else instruction
            self._begin()

    def close(self) -> None:
        """Ends the thread; a request on its way ends with its deadline."""
        with self._changed:
            self._episode = ""
        if self._thread is not None:
            self._thread.shutdown(wait=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    def _begin(self) -> None:
        self._timeline = Timeline(max_age_s=self._plan.max_age_s, blend_steps=self._plan.blend_steps)
        self._episode, self._seq = uuid.uuid4().hex, 0
        self._is_asking, self._not_before_s = False, float("-inf")
        self._answer: Answer | None = None
        self._error: VlaError | None = None

    def _raise_fatal(self) -> None:
        if isinstance(self._error, (Stop, InvalidRequest)):
            raise self._error

    def _may_ask(self, now_s: float) -> bool:
        is_time = not self._is_asking and self._wall() >= self._not_before_s and bool(self._episode)
        return is_time and self._timeline.left(now_s) <= self._plan.ask_when_left

    def _ask(self, pictures: Pictures, state: Numbers | None, ticket: Ticket, taken_at_s: float) -> None:
        episode, before = self._episode, self._answer
        told: Fields = {
            **self._plan.fields,
            "state": state,
            "session_id": episode,
            "seq": self._seq,
            "executed_index": ticket.executed_index,
            "network_rtt_ms": None if before is None else round(before.timings.network_ms, 3),
        }
        self._seq, self._is_asking, instruction = self._seq + 1, True, self._instruction

        def work() -> None:
            age_ms = round(1e3 * max(0.0, self._wall() - taken_at_s), 3)
            self._settle(episode, ticket, lambda: self._infer(pictures, instruction, {**told, "obs_age_ms": age_ms}))

        self._submit(work)

    def _infer(self, pictures: Pictures, instruction: str, fields: Fields) -> Answer:
        return self._client.infer(pictures, instruction, deadline_ms=self._plan.deadline_ms, **fields)

    def _settle(self, episode: str, ticket: Ticket, infer: Callable[[], Answer]) -> None:
        answer, error = None, None
        try:
            answer = infer()
        except VlaError as failure:
            error = failure
        except TypeError as wrong:  # a field that no request has, or a picture that is none: the program's mistake
            error = InvalidRequest("invalid_field", str(wrong))
        with self._changed:
            if episode == self._episode:
                self._is_asking = False
                self._take(ticket, answer, error)
            self._changed.notify_all()

    def _take(self, ticket: Ticket, answer: Answer | None, error: VlaError | None) -> None:
        now_s, self._error = self._clock(), error
        if answer is not None:
            if self._timeline.arrive(ticket, answer.action, now_s):
                self._answer = answer
        elif isinstance(error, Refused):
            self._timeline.drop(now_s)  # its seq is used, and the service's chunk is still the one before
        elif not isinstance(error, Continue):
            self._timeline.lose()
        if isinstance(error, Hold):
            self._not_before_s = self._wall() + (PAUSE_S if error.retry_after_s is None else error.retry_after_s)

    def _step(self, given: Given) -> Step:
        answer = self._answer if given.due is Due.MOVE else None
        return Step(given.due, given.values, given.index, answer, self._error)


def _never(_work: Callable[[], None]) -> None:
    raise RuntimeError("closed")
