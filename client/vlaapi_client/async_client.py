"""The client for asyncio programs: the same calls, results and errors as Client.

Cancelling a call hangs up, and the service stops working on it.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from vlaapi_client import calls, transport
from vlaapi_client.calls import Call, Defaults, Fields, Pictures
from vlaapi_client.client import ATTEMPTS, DEADLINE_MS
from vlaapi_client.exchange import Lost, Outcome, Reply, Retry, Send, exchange
from vlaapi_client.pictures import Encoding
from vlaapi_client.results import Answer, Model

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

T = TypeVar("T")


class AsyncClient:
    """As Client, for one event loop. Pictures are encoded on it: some 2 ms for 640×480; send bytes where that is too long."""

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
        http: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=transport.base_url(url),
            headers=dict(transport.headers_for(key)),
            transport=http or httpx.AsyncHTTPTransport(verify=verify, limits=transport.LIMITS),
        )
        self._defaults = Defaults(deadline_ms=deadline_ms, encoding=Encoding(jpeg_quality), is_repeating=attempts > 1)
        self._is_downscaling = downscale
        self._retry = Retry(attempts=attempts, clock=time.monotonic, chance=random.random)

    async def warm(self) -> tuple[Model, ...]:
        """Opens the connection, proves the key, and learns what the models want. Call it before the robot moves."""
        known = await self.models()
        if self._is_downscaling:
            self._defaults = replace(self._defaults, cameras=calls.cameras_of(known))
        return known

    async def infer(
        self, pictures: Pictures, instruction: str, *, deadline_ms: int | None = None, **fields: Unpack[Fields]
    ) -> Answer:
        """The next motion; see Client.infer. Raises Refused when the guard let no motion through."""
        return await self._run(calls.inference(pictures, instruction, fields, self._defaults, deadline_ms=deadline_ms))

    async def models(self) -> tuple[Model, ...]:
        """What each model wants and gives."""
        return await self._run(calls.models(self._defaults.deadline_ms / 1e3))

    async def ask(self, call: Call[T]) -> T:
        """One of the calls of `account`, or of your own making, with the same repetitions and errors."""
        return await self._run(call)

    async def _run(self, call: Call[T]) -> T:
        steps = exchange(call, self._retry)
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                result: T = done.value
                return result
            outcome = await (self._send(call, step) if isinstance(step, Send) else asyncio.sleep(step.seconds))

    async def _send(self, call: Call[T], step: Send) -> Reply | Lost:
        try:
            return await asyncio.wait_for(self._exchange(call, step), step.timeout_s)
        except asyncio.TimeoutError:
            return Lost("the time is over", is_late=True)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            return transport.lost(error)

    async def _exchange(self, call: Call[T], step: Send) -> Reply:
        request = transport.request_of(self._http, call, transport.Live(step.timeout_s))
        response = await self._http.send(request, stream=True)
        try:
            body = bytearray()
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > transport.ANSWER_BYTES_MAX:
                    transport.refuse_size()
            return transport.reply_of(response, bytes(body))
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.aclose()
