"""Puts together what answers requests: Triton's replicas, the bundles, the guards, the offer, and what watches and follows.

A part of the web process's composition root, beside `app.py`; reads settings and builds everything once. Knows no request.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.typing import FilteringBoundLogger

from control_plane.errors import ApiError
from control_plane.guarding.deployment import load_deployment, load_robots
from control_plane.guarding.guards import GuardsInForce, PolicyUnguardedError
from control_plane.inference.fair_queue import FairQueue
from control_plane.metrics import Metrics
from control_plane.policies.catalogue import Catalogue, load_catalogue
from control_plane.policies.follow import Followed, Follower
from control_plane.policies.offer import Offer
from control_plane.policies.outliers import Outliers
from control_plane.policies.readiness import Canary
from control_plane.policies.reload import BundlesRefused, Reload
from control_plane.replicas import Replicas
from control_plane.settings import Settings, SettingsError, variable
from control_plane.triton import GrpcTriton, Triton
from control_plane.unary_grpc.channel import AddressError
from safety.profile import Preset


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What one process has of it."""

    replicas: Replicas
    offer: Offer
    in_force: GuardsInForce
    canary: Canary
    fair_queue: FairQueue
    follower: Follower
    outliers: Outliers

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Knows what operators have decided before the first request, and follows until the last."""
        await self.follower.load()
        self.follower.start()
        self.outliers.start()
        try:
            yield
        finally:
            await self.outliers.stop()
            await self.follower.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What it stands among."""

    engine: AsyncEngine
    redis: Redis
    metrics: Metrics
    log: FilteringBoundLogger


def create_fleet(settings: Settings, around: Surroundings, *, triton: Triton | None = None) -> Fleet:
    """`triton` replaces the real ones. Raises ManifestError, PolicyUnguardedError, SettingsError."""
    metrics = around.metrics.fleet
    replicas = Replicas(
        {address: triton or _triton(address) for address in map(str.strip, settings.triton_url.split(","))},
        retried=lambda address: metrics.retries.labels(address).inc(),
    )
    catalogue = load_catalogue(settings.model_repository, default=settings.default_policy)
    in_force, offer = _guards(settings, catalogue), Offer(catalogue=catalogue)
    reload = Reload(
        repository=settings.model_repository, catalogue=catalogue, triton=replicas, guard=lambda fresh: _guarded(in_force, fresh)
    )
    followed = Followed(offer=offer, replicas=replicas, reload=reload, metrics=metrics)
    return Fleet(
        replicas=replicas,
        offer=offer,
        in_force=in_force,
        canary=Canary(triton=replicas, offer=offer),
        fair_queue=FairQueue(slots=lambda: settings.triton_in_flight * replicas.usable, metrics=metrics),
        follower=Follower(engine=around.engine, redis=around.redis, followed=followed, log=around.log),
        outliers=Outliers(
            replicas=replicas,
            offer=offer,
            log=around.log,
            ejected=lambda address, reason: metrics.ejections.labels(address, reason).inc(),
        ),
    )


def _triton(address: str) -> Triton:
    try:
        return GrpcTriton(address)
    except AddressError as fault:
        raise SettingsError(f"{variable('triton_url')}: {fault}") from None


def _guards(settings: Settings, catalogue: Catalogue) -> GuardsInForce:
    deployment = load_deployment(settings.safety_limits_file)
    try:
        preset = Preset(settings.safety_preset)
        return GuardsInForce(catalogue=catalogue, preset=preset, deployment=deployment, profiles=load_robots(settings.robots_dir))
    except ApiError as fault:
        raise SettingsError(f"{variable('safety_limits_file')}: {fault.message}") from None


def _guarded(in_force: GuardsInForce, fresh: Catalogue) -> Callable[[], None]:
    try:
        return in_force.prepare(fresh)
    except PolicyUnguardedError as fault:
        raise BundlesRefused(str(fault)) from None
