"""One connection to Redis that many callers share: commands go out in the order they come, replies come back in that order.

For the two round trips of every request: a connection of a pool's own per caller, taken, written, awaited and given back, cost
redis-py three times as much CPU. redis-py still connects (password, database, TLS) and says what an error reply means. Knows no
command; nothing that blocks in Redis may be asked here, because all wait behind it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

Command = tuple[Any, ...]

_NOT_YET = object()


class _Asked:
    __slots__ = ("answer", "count", "replies", "until_s")

    def __init__(self, answer: "asyncio.Future[list[Any]]", count: int, until_s: float) -> None:
        self.answer = answer
        self.count = count
        self.replies: list[Any] = []
        self.until_s = until_s


class Line(asyncio.Protocol):
    """`connection` is connected and nobody else's. Once it breaks, who waits is told, and asks anew.

    After a late reply nothing more is asked on it. The late one's place stays, so that its reply goes to nobody else; those who
    asked after it still get theirs.
    """

    def __init__(self, connection: AbstractConnection, *, timeout_s: float, error_of: Callable[[str], Exception]) -> None:
        """`error_of` makes an exception of an error reply's text."""
        self.is_open = True  # False: nothing more may be asked on it
        self._connection = connection
        self._timeout_s = timeout_s
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=error_of, notEnoughData=_NOT_YET)
        self._asked: deque[_Asked] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        writer: Any = connection._writer  # there is no public way to its transport
        self._transport = cast(asyncio.Transport, writer.transport)
        self._transport.set_protocol(self)

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """One reply a command, errors that Redis answered with included. Raises ConnectionError, TimeoutError of redis-py."""
        if not self.is_open:
            raise RedisConnectionError("The connection has ended.")
        packed = self._packed(commands)  # before a place is taken: what cannot be packed must leave none
        answer: asyncio.Future[list[Any]] = self._loop.create_future()
        self._asked.append(_Asked(answer, len(commands), self._loop.time() + self._timeout_s))
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s, self._look_at_the_clock)
        self._transport.writelines(packed)
        replies = await answer
        for reply in replies:
            if isinstance(reply, Exception) and not isinstance(reply, ResponseError):  # as LOADING: it does not answer yet
                raise reply
        return replies

    def _packed(self, commands: Sequence[Command]) -> list[bytes]:
        """As redis-py packs them, in one call a command; redis-py says what is wrong with the rest, or can pack it after all."""
        try:
            return [hiredis.pack_command((*name.split(), *arguments)) for name, *arguments in commands]
        except TypeError:
            return self._connection.pack_commands(commands)

    async def close(self) -> None:
        """Ends it; whoever waits is told so."""
        self._end(RedisConnectionError("The connection was closed."))

    def data_received(self, data: bytes) -> None:
        """Hands replies out in order."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOT_YET:
                if not isinstance(reply, hiredis.PushNotification):
                    self._take(reply)
        except (InvalidResponse, IndexError) as error:
            self._end(RedisConnectionError(f"Redis broke its protocol: {error}"))

    def eof_received(self) -> None:
        """No reply can come any more, whatever is still to be sent."""
        self._end(RedisConnectionError("Connection closed by server."))

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits is told: their commands may or may not have run."""
        self._end(RedisConnectionError(f"Connection lost: {exc}" if exc else "Connection closed by server."))

    def _take(self, reply: object) -> None:
        asked = self._asked[0]
        asked.replies.append(reply)
        if len(asked.replies) == asked.count:
            self._asked.popleft()
            if not asked.answer.done():
                asked.answer.set_result(asked.replies)

    def _look_at_the_clock(self) -> None:
        """One timer for all: the first to have asked is the first to be late."""
        self._timer = None
        now = self._loop.time()
        for asked in self._asked:
            if asked.until_s > now:
                self._timer = self._loop.call_at(asked.until_s, self._look_at_the_clock)
                return
            self.is_open = False
            if not asked.answer.done():
                asked.answer.set_exception(RedisTimeoutError("Timeout reading from Redis."))
        if not self.is_open:
            self._end(RedisConnectionError("Its replies came too late."))

    def _end(self, error: Exception) -> None:
        self.is_open = False
        if self._timer is not None:
            self._timer.cancel()
        while self._asked:
            answer = self._asked.popleft().answer
            if not answer.done():
                answer.set_exception(error)
        self._transport.abort()
        self._connection._close()  # type: ignore[no-untyped-call] # `disconnect` would wait for a stream that is ours now
