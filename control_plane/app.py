"""The web process: reads the settings, builds every neighbour once, opens and closes them in order.

`create_app(settings)` is what tests load, `create_app_from_environment` what a server loads (`uvicorn --factory`). Knows no step
of a request: those are `inference`'s.
"""

import ctypes
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from fastapi import FastAPI
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.typing import FilteringBoundLogger

from control_plane.capture.collect import Bounds, LocalCapture, NoCapture
from control_plane.db import DatabaseAwayError, create_engine, database_errors
from control_plane.drain import Drain
from control_plane.fleet import Fleet, Surroundings, create_fleet
from control_plane.identity.address import networks
from control_plane.identity.authenticate import Authenticator
from control_plane.identity.revocation import RevocationListener
from control_plane.inference.body import BodyLimits
from control_plane.inference.contract import Contract
from control_plane.inference.dry_run import DryRun
from control_plane.inference.guard import Guards
from control_plane.inference.in_flight import InFlight
from control_plane.inference.infer import Inference
from control_plane.inference.pipeline import Pipeline
from control_plane.inference.preprocess import Preprocessor
from control_plane.invoices.operator_endpoints import InvoiceDesk
from control_plane.invoices.seller import load_seller
from control_plane.keys.verbs import Stores
from control_plane.limits.limiter import Limiter
from control_plane.limits.spend import Spending
from control_plane.logs import adopt_libraries, create_log
from control_plane.mail.letters import letterhead_of
from control_plane.metrics import Metrics, create_metrics
from control_plane.policies.routes import ModelList
from control_plane.protocols.application import Doors, assemble
from control_plane.protocols.desk import Desk
from control_plane.protocols.operations import Operations
from control_plane.protocols.robots import RobotList
from control_plane.protocols.safety_settings import SafetySettings
from control_plane.redis import REDIS_AWAY, create_redis
from control_plane.sampling import rules_of
from control_plane.settings import Settings, load_settings
from control_plane.triton import Triton
from control_plane.usage.journal import Journal
from control_plane.usage.recent import Recent
from control_plane.usage.replay import Replay
from control_plane.usage.spent import BillableCount
from control_plane.usage.spool import Spool
from export.contract.bicubic import is_compiled
from safety.profile import Preset

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_MOST_FROM_HEAP, _MOST_KEPT = 32 * 2**20, 64 * 2**20  # bytes; glibc takes no larger first one


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """What the process talks to, and what runs beside the requests."""

    engine: AsyncEngine
    redis: Redis
    fleet: Fleet
    metrics: Metrics
    log: FilteringBoundLogger
    authenticator: Authenticator
    listener: RevocationListener
    spool: Spool
    journal: Journal
    replay: Replay
    preprocessor: Preprocessor
    capture: LocalCapture | None


def create_app(settings: Settings, *, triton: Triton | None = None, log: FilteringBoundLogger | None = None) -> FastAPI:
    """The application; nothing is connected before the server starts it. `triton` and `log` replace the real ones."""
    neighbours = _neighbours(settings, triton, log or create_log(settings.log_level))
    doors = _doors(settings, neighbours)
    return assemble(doors, lifespan=_lifespan(settings, neighbours, doors.operations.drain))


def create_app_from_environment() -> FastAPI:
    """For a server that loads a factory. Raises SettingsError listing everything that is wrong."""
    app = create_app(load_settings())
    _let_be()
    return app


def _let_be() -> None:
    """What is there now stays until the process ends: the collector need not look at it again, nor look so often.

    A full look at all that is imported took 35 to 120 ms in which nobody was answered; a request leaves next to no cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    _keep_memory()


def _keep_memory() -> None:
    """What one picture took is there for the next: else megabytes go back to the kernel, which clears new ones each time."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        libc.mallopt(_M_MMAP_THRESHOLD, _MOST_FROM_HEAP)
        libc.mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)


def _neighbours(settings: Settings, triton: Triton | None, log: FilteringBoundLogger) -> Neighbours:
    metrics = create_metrics()
    engine = create_engine(
        str(settings.database_url), pool_size=settings.database_pool_size, timeout_s=settings.database_timeout_s
    )
    is_away = metrics.breaker_open.labels("redis").set
    redis = create_redis(str(settings.redis_url), timeout_s=settings.redis_timeout_s, changed=is_away)
    authenticator = Authenticator(
        engine=engine,
        redis=redis,
        pepper=settings.key_pepper.get_secret_value().encode(),
        cache_s=settings.key_cache_s,
        metrics=metrics,
        trusted_proxies=networks(settings.trusted_networks),
    )
    spool, recent = Spool(settings.spool_dir), Recent()
    around = Surroundings(engine=engine, redis=redis, metrics=metrics, log=log)
    return Neighbours(
        engine=engine,
        redis=redis,
        fleet=create_fleet(settings, around, triton=triton),
        metrics=metrics,
        log=log,
        authenticator=authenticator,
        listener=RevocationListener(redis=redis, authenticator=authenticator),
        spool=spool,
        journal=Journal(redis=redis, spool=spool, recent=recent, metrics=metrics, log=log),
        replay=Replay(redis=redis, spool=spool, recent=recent, metrics=metrics, log=log),
        preprocessor=Preprocessor(threads=settings.decode_threads, max_pixels=settings.max_image_pixels),
        capture=_capture(settings, metrics, log),
    )


def _capture(settings: Settings, metrics: Metrics, log: FilteringBoundLogger) -> LocalCapture | None:
    """Without an object store nothing is captured, whatever customers allow."""
    if settings.object_store_url is None:
        return None
    bounds = Bounds(spool_bytes=settings.capture_spool_bytes, seal_s=settings.capture_idle_s / 2)
    return LocalCapture(settings.capture_dir, rules=rules_of(settings.capture_rules), bounds=bounds, metrics=metrics, log=log)


def _doors(settings: Settings, n: Neighbours) -> Doors:
    fleet, profiles = n.fleet, n.fleet.in_force.profiles
    pipeline = _pipeline(settings, n)
    stores = Stores(engine=n.engine, redis=n.redis, pepper=settings.key_pepper.get_secret_value().encode())
    return Doors(
        pipeline=pipeline,
        body_limits=BodyLimits(max_bytes=settings.max_body_bytes, timeout_s=settings.body_timeout_s),
        models=ModelList(offer=n.fleet.offer, canary=fleet.canary, authenticate=n.authenticator.authenticate),
        robots=RobotList(offer=n.fleet.offer, profiles=profiles, authenticate=n.authenticator.authenticate),
        safety_settings=SafetySettings(
            stores=stores,
            limiter=pipeline.limiter,
            authenticate=n.authenticator.authenticate,
            profiles=profiles,
            preset=Preset(settings.safety_preset),
            log=n.log,
        ),
        dry_run=_dry_run(pipeline, settings),
        desk=Desk(
            stores=stores,
            letterhead=letterhead_of(
                public_url=settings.public_url, docs_url=settings.docs_url, operator_email=settings.operator_email
            ),
            authenticate=n.authenticator.authenticate,
            trusted_proxies=networks(settings.trusted_networks),
            more_operator_endpoints=InvoiceDesk(load_seller(settings.seller_file)).endpoints(),
            is_loopback_allowed=settings.webhook_allow_loopback,
        ),
        operations=Operations(
            canary=fleet.canary,
            probes={"redis": partial(_redis_answers, n.redis), "postgres": partial(_postgres_answers, n.engine)},
            metrics=n.metrics,
        ),
        metrics=n.metrics,
        log=n.log,
        public_url=settings.public_url,
        socket_idle_s=settings.socket_idle_s,
    )


def _pipeline(settings: Settings, n: Neighbours) -> Pipeline:
    return Pipeline(
        in_flight=InFlight(limit=settings.max_in_flight, gauge=n.metrics.tallies.count(n.metrics.in_flight)),
        authenticator=n.authenticator,
        limiter=Limiter(
            redis=n.redis,
            metrics=n.metrics,
            processes=settings.api_processes,
            spending=Spending(count=BillableCount(engine=n.engine, redis=n.redis), metrics=n.metrics),
        ),
        contract=Contract(offer=n.fleet.offer, default_robot=settings.robot_type),
        preprocessor=n.preprocessor,
        fair_queue=n.fleet.fair_queue,
        inference=Inference(triton=n.fleet.replicas, faults=n.metrics.triton_errors, log=n.log),
        guards=Guards(in_force=n.fleet.in_force, metrics=n.metrics, log=n.log),
        journal=n.journal,
        log=n.log,
        default_deadline_ms=settings.default_deadline_ms,
        capture=n.capture or NoCapture(),
    )


def _dry_run(pipeline: Pipeline, settings: Settings) -> DryRun:
    return DryRun(
        in_flight=pipeline.in_flight,
        authenticator=pipeline.authenticator,
        limiter=pipeline.limiter,
        offer=pipeline.contract.offer,
        guards=pipeline.guards,
        journal=pipeline.journal,
        log=pipeline.log,
        default_robot=settings.robot_type,
        time_limit_s=settings.default_deadline_ms / 1e3,
    )


async def _redis_answers(redis: Redis) -> bool:
    try:
        return bool(await redis.ping())
    except REDIS_AWAY:
        return False


async def _postgres_answers(engine: AsyncEngine) -> bool:
    try:
        with database_errors():
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
    except DatabaseAwayError:
        return False
    return True


def _lifespan(settings: Settings, n: Neighbours, drain: Drain) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """What must be open before the first request, and the order in which it is closed after the last."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as closing:
            closing.callback(adopt_libraries(n.log, settings.log_level))
            closing.enter_context(drain.by_signal())
            await closing.enter_async_context(n.metrics.tallies.handing_on())
            closing.push_async_callback(n.engine.dispose)
            closing.push_async_callback(n.redis.aclose)
            closing.push_async_callback(n.fleet.replicas.close)
            closing.callback(n.preprocessor.close)
            closing.push_async_callback(n.authenticator.close)
            n.authenticator.last_used.start()
            closing.push_async_callback(n.authenticator.last_used.stop)
            await n.spool.start()
            closing.push_async_callback(n.spool.close)
            await n.replay.start()
            closing.push_async_callback(n.replay.stop)
            if n.capture is not None:
                n.capture.start()
                closing.callback(n.capture.close)
            n.listener.start()
            closing.push_async_callback(n.listener.stop)
            await closing.enter_async_context(n.fleet.running())
            n.log.info("started", pictures_resized_by="library" if is_compiled() else "pillow")
            yield
            n.log.info("stopping")

    return lifespan
