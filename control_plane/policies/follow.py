"""Keeps one API process in step with what operators decide, and tells them what the process sees.

A change is heard over Redis at once and, heard or not, found by asking PostgreSQL for the revision twice a second. Where
PostgreSQL cannot be reached, the last standing that any process left in Redis holds, if it is newer. With nothing to go by at the
start the process offers nothing. Bundles are read again only when told to, all of them or none.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.typing import FilteringBoundLogger

from control_plane.db import DatabaseAwayError
from control_plane.metrics import FleetMetrics
from control_plane.policies.announce import CHANNEL, recall, remember
from control_plane.policies.offer import Offer
from control_plane.policies.reload import BundlesRefused, Reload
from control_plane.policies.roll_call import PolicyReport, ReplicaReport, Report, leave_report, own_name
from control_plane.policies.standing import Standing, read_revision, read_standing
from control_plane.redis import REDIS_AWAY
from control_plane.replicas import Replicas, ReplicaState

_EVERY_S = 0.5
_LISTEN_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What in the process follows."""

    offer: Offer
    replicas: Replicas
    reload: Reload
    metrics: FleetMetrics
    changed: Callable[[], None] = lambda: None  # called when the offer has changed


class Follower:
    """One per process. `load` before the first request, then `start`."""

    def __init__(self, *, engine: AsyncEngine, redis: Redis, followed: Followed, log: FilteringBoundLogger) -> None:
        self._engine = engine
        self._redis = redis
        self._followed = followed
        self._log = log
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_stopping = False
        self._name = own_name()
        self._remembered = -1
        self._bundles: int | None = None  # what was read at the start is as new as can be
        self._refusal: str | None = None

    async def load(self) -> None:
        """The standing of this moment, if any store has it."""
        await self._look()

    def start(self) -> None:
        """Begins to follow."""
        self._tasks = [asyncio.create_task(self._look_for_ever()), asyncio.create_task(self._listen_for_ever())]

    async def stop(self) -> None:
        """Ends it. A cancellation can get lost inside a client library that is in the middle of something; the flag cannot."""
        self._is_stopping = True
        self._wake.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look_for_ever(self) -> None:
        while not self._is_stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_S):
                    await self._wake.wait()
            self._wake.clear()
            await self._look()
            self._measure()
            with contextlib.suppress(*REDIS_AWAY):
                await leave_report(self._redis, self._report())

    async def _look(self) -> None:
        standing = await self._newest()
        if standing is not None:
            await self._take(standing)
        held = self._followed.offer.standing
        if held is not None and held.revision > self._remembered:
            with contextlib.suppress(*REDIS_AWAY):
                await remember(self._redis, held)
                self._remembered = held.revision

    async def _newest(self) -> Standing | None:
        """A standing that is newer than the one held, or None."""
        held = self._followed.offer.standing
        try:
            if held is not None and await read_revision(self._engine) == held.revision:
                return None
            return await read_standing(self._engine)
        except DatabaseAwayError:
            with contextlib.suppress(*REDIS_AWAY):
                found = await recall(self._redis)
                if found is not None and (held is None or found.revision > held.revision):
                    return found
        return None

    async def _take(self, standing: Standing) -> None:
        """Everything that does not need the new bundles at once, then the bundles."""
        self._followed.offer.standing = standing
        self._followed.replicas.drain(standing.draining)
        if self._bundles is not None and standing.bundles > self._bundles:
            await self._read_bundles()
        self._bundles = standing.bundles
        self._followed.changed()
        self._log.info("standing_taken", revision=standing.revision)

    async def _read_bundles(self) -> None:
        try:
            await self._followed.reload.run()
        except BundlesRefused as refusal:
            self._refusal = str(refusal)
            self._log.error("bundles_refused", reason=self._refusal)
            return
        self._refusal = None
        self._log.info("bundles_read", models=[policy.model for policy in self._followed.offer.catalogue.everything()])

    async def _listen_for_ever(self) -> None:
        """Being told is only faster than looking: a connection that is silently dead costs half a second, no more."""
        while not self._is_stopping:
            with contextlib.suppress(RedisError, OSError):
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(CHANNEL)
                    while not self._is_stopping:
                        if await pubsub.get_message(ignore_subscribe_messages=True, timeout=_LISTEN_PAUSE_S) is not None:
                            self._wake.set()
            await asyncio.sleep(_LISTEN_PAUSE_S)

    def _measure(self) -> None:
        metrics = self._followed.metrics
        for replica in self._followed.replicas.all:
            metrics.in_flight.labels(replica.address).set(replica.in_flight)
            for state in ReplicaState:
                metrics.processes.labels(replica.address, state.value).set(replica.state is state)

    def _report(self) -> Report:
        offer, replicas = self._followed.offer, self._followed.replicas.all
        served = offer.catalogue.everything()
        return Report(
            process=self._name,
            revision=-1 if offer.standing is None else offer.standing.revision,
            bundles=self._bundles or 0,
            refusal=self._refusal,
            policies=[PolicyReport(policy=one.name, version=one.version, model=one.model) for one in served],
            replicas=[ReplicaReport(address=one.address, state=one.state.value, in_flight=one.in_flight) for one in replicas],
        )
