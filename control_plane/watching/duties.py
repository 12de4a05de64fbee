"""The worker's looks as steps with their rhythm, and its own `/metrics` where it does not share a folder with the API processes.

A part of the worker's composition root: builds from settings, decides nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from prometheus_client import start_http_server
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.typing import FilteringBoundLogger

from control_plane.metrics import Metrics, WatchMetrics
from control_plane.objects import create_objects
from control_plane.settings import Settings
from control_plane.watching.certificate import expires_at_s
from control_plane.watching.customers import CustomerWatch
from control_plane.watching.dead import count_dead
from control_plane.watching.stores import StoreWatch, look_at_disk, look_at_objects

_OBJECTS_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One step and how often it is done."""

    step: Callable[[], Awaitable[object]]
    every_s: float


def looks(settings: Settings, engine: AsyncEngine, redis: Redis, metrics: Metrics, log: FilteringBoundLogger) -> dict[str, Look]:
    """Everything that is looked at, by the name of its duty. `engine` should answer soon or not at all."""
    watch = metrics.watch
    stores = StoreWatch(engine=engine, redis=redis, metrics=watch)
    customers = CustomerWatch(engine=engine, metrics=watch, log=log)
    found = {
        "watch-stores": Look(step=stores.step, every_s=5.0),
        "watch-disk": Look(step=partial(look_at_disk, settings.spool_dir, watch), every_s=5.0),
        "watch-dead": Look(step=partial(count_dead, engine, watch), every_s=10.0),
        "watch-customers": Look(step=customers.step, every_s=60.0),
        "watch-certificate": Look(step=partial(_look_at_certificate, settings.public_url, metrics, log), every_s=3600.0),
    }
    if settings.object_store_url is not None:
        url = settings.object_store_url.get_secret_value()
        found["watch-objects"] = Look(step=partial(_look_at_objects, url, watch), every_s=15.0)
    return found


async def _look_at_objects(url: str, metrics: WatchMetrics) -> None:
    objects = create_objects(url, timeout_s=_OBJECTS_TIMEOUT_S)
    try:
        await look_at_objects(objects, metrics)
    finally:
        await objects.aclose()


async def _look_at_certificate(url: str, metrics: Metrics, log: FilteringBoundLogger) -> None:
    try:
        instant = await asyncio.to_thread(expires_at_s, url)
    except OSError as error:
        log.warning("certificate not seen", url=url, detail=str(error))
        return
    if instant is not None:
        metrics.watch.certificate_until.set(instant)


async def serve_metrics(metrics: Metrics, port: int, stop: asyncio.Event) -> None:
    """Answers `/metrics` on that port until `stop`, from a thread."""
    server, thread = start_http_server(port, registry=metrics.registry)
    try:
        await stop.wait()
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()
