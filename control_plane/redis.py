"""The Redis protocol: one client per process with bounded waits. Knows no key names; limits, identity and usage bring theirs.

What every request asks (scripts, and pipelines without a transaction) goes over one connection that all share, `redis_line.py`;
the rest takes one of redis-py's pool. Errors that mean "Redis is away" are `REDIS_AWAY`; each caller states what it does then
(fail closed, or degrade with a metric). A breaker sits inside the client: while Redis hangs or is gone, one caller in `pause_s`
waits for it and the others get ConnectionError at once.
"""

from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import ConnectionPool, DefaultParser
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MasterDownError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from control_plane.breaker import Breaker
from control_plane.kept_open import KeptOpen
from control_plane.redis_line import Command, Line


class RedisRefusesError(ResponseError):
    """The server answers, but cannot do its work at present: its disk is full (MISCONF) or a script blocks it (BUSY)."""


_UNREACHABLE = (RedisConnectionError, RedisTimeoutError, OSError)
REDIS_AWAY = (*_UNREACHABLE, RedisRefusesError, ReadOnlyError, OutOfMemoryError, MasterDownError)

# Commands that one room adds to another's pipeline, so that both go in one round trip.
Commands = Callable[[Pipeline], None]

# redis-py has no class of its own for these two replies; without one they could not be told from our own mistakes.
_Parser: Any = type(
    "_Parser",
    (DefaultParser,),
    {"EXCEPTION_CLASSES": {**DefaultParser.EXCEPTION_CLASSES, "MISCONF": RedisRefusesError, "BUSY": RedisRefusesError}},
)


class _Shared:
    """The line that all share."""

    def __init__(self, pool: ConnectionPool, timeout_s: float) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._line = KeptOpen(self._open, closed=lambda: RedisConnectionError("The client was closed."))
        self.close = self._line.close

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Their replies. A broken connection is tried once more on a new one. Raises what redis-py raises."""
        try:
            return await (self._line.at_hand or await self._line.reach()).ask(commands)
        except RedisConnectionError:
            return await (self._line.at_hand or await self._line.reach()).ask(commands)

    async def _open(self) -> Line:
        """redis-py bounds how long it takes."""
        connection: Any = self._pool.make_connection()  # type: ignore[no-untyped-call] # redis-py has no types here
        await connection.connect()
        return Line(connection, timeout_s=self._timeout_s, error_of=_Parser.parse_error)


class _Pipeline(Pipeline):
    """A pipeline whose execution passes the breaker; without a transaction, on the shared line."""

    breaker: Breaker
    shared: _Shared

    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 -- redis-py's own signature
        execute = super().execute if self.is_transaction or self.watching else self._execute_together
        answers: list[Any] = await _pass(self.breaker, execute, raise_on_error)
        return answers

    async def _execute_together(self, raise_on_error: bool) -> list[Any]:  # noqa: FBT001 -- as above
        stack, self.command_stack = self.command_stack, []
        if not stack:
            return []
        replies = await self.shared.ask([args for args, _ in stack])
        callbacks = self.response_callbacks
        for at, (args, options) in enumerate(stack):
            if args[0] in callbacks and not isinstance(replies[at], Exception):
                wanted = {name: value for name, value in options.items() if name != "keys"}  # those are for redis-py's cache
                replies[at] = callbacks[args[0]](replies[at], **wanted)
        if raise_on_error:
            self.raise_first_error(stack, replies)
        return replies


_SCRIPTS = frozenset({"EVALSHA", "EVAL"})


class _Client(Redis):
    """A client whose every command and pipeline passes the breaker. Subscriptions do not: their listener paces itself."""

    breaker: Breaker
    shared: _Shared

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] in _SCRIPTS:
            return await _pass(self.breaker, self._run_script, args)
        return await _pass(self.breaker, super().execute_command, *args, **options)

    async def _run_script(self, command: Command) -> Any:
        (reply,) = await self.shared.ask([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> _Pipeline:  # noqa: FBT001, FBT002 -- as above
        pipeline = _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.breaker, pipeline.shared = self.breaker, self.shared
        return pipeline

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001 -- as above
        await self.shared.close()
        await super().aclose(close_connection_pool)


async def _pass(breaker: Breaker, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    if not breaker.may_try():
        raise RedisConnectionError("Redis was away a moment ago.")
    try:
        answer = await call(*args, **options)
    except _UNREACHABLE:
        breaker.failed()
        raise
    except RedisError:  # a refusal is an answer too: a restarted server first says that it does not know our script
        breaker.succeeded()
        raise
    if breaker.is_open:
        breaker.succeeded()
    return answer


def create_redis(
    url: str,
    *,
    timeout_s: float,
    max_connections: int = 256,
    pause_s: float = 0.5,
    changed: Callable[[int], None] | None = None,  # told 1 when Redis goes away and 0 when it is back
) -> Redis:
    """A pooled client that answers within `timeout_s` or raises one of REDIS_AWAY. Connects lazily; bytes in, bytes out.

    A broken connection is tried once more on a new one (a command may then run twice: make it idempotent); a time-out is not.
    """
    pool: ConnectionPool = ConnectionPool.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        max_connections=max_connections,
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        health_check_interval=0,
        parser_class=_Parser,
    )
    client = _Client(connection_pool=pool)
    client.auto_close_connection_pool = True
    client.breaker = Breaker(pause_s=pause_s, changed=changed)
    client.shared = _Shared(pool, timeout_s)
    return client
