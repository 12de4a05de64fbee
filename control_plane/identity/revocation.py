"""Hears, in every API process, that a key has changed, and makes its Authenticator look again.

`known_keys.announce` speaks. While nothing can be heard (Redis is away) the Authenticator's own bound holds; when hearing begins
again, whatever was missed is covered by forgetting everything. Started and stopped by the web process; knows no HTTP and no SQL.
"""

import asyncio
import logging
import time
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from control_plane.identity.authenticate import Authenticator
from control_plane.identity.known_keys import CHANNEL, announced

_log = logging.getLogger(__name__)

_PING_EVERY_S = 1.0
_SILENCE_S = 3.0  # longer than this without even an answer to a ping: the connection is dead
_PAUSE_S = 0.2


class RevocationListener:
    """One per process. `start` returns at once; hearing begins as soon as Redis can be reached."""

    def __init__(self, *, redis: Redis, authenticator: Authenticator) -> None:
        self._redis = redis
        self._authenticator = authenticator
        self._task: asyncio.Task[None] | None = None
        self._is_hearing = asyncio.Event()

    @property
    def is_hearing(self) -> bool:
        """Whether changes arrive at once; for readiness to report."""
        return self._is_hearing.is_set()

    async def wait_until_hearing(self) -> None:
        """For those who must not begin before (tests, a warm start)."""
        await self._is_hearing.wait()

    def start(self) -> None:
        """Begins to listen."""
        self._task = asyncio.create_task(self._listen_for_ever())

    async def stop(self) -> None:
        """Ends the listening. Asks again until it has ended: redis-py can lose a cancellation that comes while it connects."""
        while self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_PAUSE_S)

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await self._listen(pubsub)
            except (RedisError, OSError) as error:
                if self._is_hearing.is_set():
                    _log.warning("Key changes cannot be heard: %s", type(error).__name__)
            finally:
                self._is_hearing.clear()
            await asyncio.sleep(_PAUSE_S)

    async def _listen(self, pubsub: PubSub) -> None:
        """Returns when the connection is silent, raises when it breaks."""
        await pubsub.subscribe(CHANNEL)
        heard_at_s = time.monotonic()
        while time.monotonic() - heard_at_s < _SILENCE_S:
            message = await pubsub.get_message(timeout=_PING_EVERY_S)
            if message is None:
                await pubsub.ping()
                continue
            heard_at_s = time.monotonic()
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "subscribe":  # also after a reconnection inside the client library
                self._authenticator.forget_all()
                self._is_hearing.set()
            case "message":
                self._authenticator.forget(announced(message["data"]))
