"""The client for ordinary programs: calls that block until there is an answer or the deadline is over. Safe to share by threads.

A thin shell: what to send, how to read and when to repeat is in `calls`, `results` and `exchange`, shared with AsyncClient.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from vlaapi_client import calls, transport
from vlaapi_client.calls import Call, Defaults, Fields, Pictures
from vlaapi_client.exchange import Lost, Outcome, Pause, Reply, Retry, Send, exchange
from vlaapi_client.pictures import Encoding
from vlaapi_client.results import Answer, Model

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

T = TypeVar("T")

DEADLINE_MS = 2000
ATTEMPTS = 3


class Client:
    """One service, one key. Make one per program and keep it: a new connection costs more than an inference.

    `deadline_ms` bounds each call with all its attempts. `jpeg_quality` None sends PNG. `downscale` (used after `warm`) sends
    pictures in the size that the model looks at, where the service would do exactly the same.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        deadline_ms: int = DEADLINE_MS,
        attempts: int = ATTEMPTS,
        jpeg_quality: int | None = 90,
        downscale: bool = False,
        verify: Any = True,
        http: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(
            base_url=transport.base_url(url),
            headers=dict(transport.headers_for(key)),
            limits=transport.LIMITS,
            transport=http or httpx.HTTPTransport(verify=verify, limits=transport.LIMITS),
        )
        self._defaults = Defaults(deadline_ms=deadline_ms, encoding=Encoding(jpeg_quality), is_repeating=attempts > 1)
        self._is_downscaling = downscale
        self._retry = Retry(attempts=attempts, clock=time.monotonic, chance=random.random)

    def warm(self) -> tuple[Model, ...]:
        """Opens the connection, proves the key, and learns what the models want. Call it before the robot moves."""
        known = self.models()
        if self._is_downscaling:
            self._defaults = replace(self._defaults, cameras=calls.cameras_of(known))
        return known

    def infer(self, pictures: Pictures, instruction: str, *, deadline_ms: int | None = None, **fields: Unpack[Fields]) -> Answer:
        """The next motion. `pictures` is one of the first camera, or a mapping by camera name.

        Raises Refused when the guard let no motion through: an answer is always a motion that may be executed.
        """
        return self._run(calls.inference(pictures, instruction, fields, self._defaults, deadline_ms=deadline_ms))

    def models(self) -> tuple[Model, ...]:
        """What each model wants and gives."""
        return self._run(calls.models(self._defaults.deadline_ms / 1e3))

    def ask(self, call: Call[T]) -> T:
        """One of the calls of `account`, or of your own making, with the same repetitions and errors."""
        return self._run(call)

    def _run(self, call: Call[T]) -> T:
        steps = exchange(call, self._retry)
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                result: T = done.value
                return result
            outcome = self._send(call, step) if isinstance(step, Send) else None
            if isinstance(step, Pause):
                time.sleep(step.seconds)

    def _send(self, call: Call[T], step: Send) -> Reply | Lost:
        live = transport.Live(step.timeout_s)
        try:
            response = self._http.send(transport.request_of(self._http, call, live), stream=True)
            try:
                return _read(response, live)
            finally:
                response.close()
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            return transport.lost(error)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()


def _read(response: httpx.Response, live: transport.Live) -> Reply | Lost:
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > transport.ANSWER_BYTES_MAX:
            transport.refuse_size()
        if live.is_over():
            return Lost("the time is over", is_late=True)
    return transport.reply_of(response, bytes(body))
