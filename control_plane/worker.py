"""The worker process: records usage events, keeps partitions ahead, measures the stream, replays spools, reconciles at night.

Composition root: builds everything once from the settings and does each duty until SIGTERM or SIGINT; then the batch under way is
finished and the process ends with 0. Any number of workers may run. Started by `vlaapi worker`.
"""

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from functools import partial

from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.typing import FilteringBoundLogger

from control_plane.alerts.check import Alerts
from control_plane.audit.record import By
from control_plane.backups.dump import Source
from control_plane.backups.duty import EVERY_S as BACKUPS_EVERY_S
from control_plane.backups.duty import BackupDuty, Plan, tell_age
from control_plane.backups.keep import keep_of
from control_plane.backups.store import Vault
from control_plane.capture.ship import Shipper
from control_plane.capture.sweep import Sweeper
from control_plane.db import DatabaseAwayError, connect, create_engine
from control_plane.invoices.plans import apply_due
from control_plane.keys.verbs import Stores
from control_plane.logs import adopt_libraries, create_log
from control_plane.mail.delivery import Delivery
from control_plane.mail.letters import letterhead_of
from control_plane.mail.sweep import sweep_outboxes
from control_plane.mail.transport import transport_of
from control_plane.metrics import Metrics, create_metrics
from control_plane.objects import ObjectStore, ObjectStoreAwayError, create_objects
from control_plane.redis import create_redis
from control_plane.revenue.duties import CHECK_EVERY_S, FIRST_AFTER_S, REFRESH_EVERY_S, costs_of, keep_revenue
from control_plane.revenue.truths import HourlyCheck
from control_plane.sampling import rules_of
from control_plane.settings import Settings, SettingsError
from control_plane.usage.measure import measure
from control_plane.usage.nightly import Sources, reconcile_recent
from control_plane.usage.partitions import days_ahead, ensure_partitions
from control_plane.usage.recent import Recent
from control_plane.usage.recorder import STORES_AWAY, Connect, Pace, Recorder
from control_plane.usage.replay import Replay
from control_plane.usage.rhythm import pause, seconds_until
from control_plane.usage.spool import Spool, SpoolError
from control_plane.usage.stream import Consumer
from control_plane.watching.duties import looks, serve_metrics
from control_plane.webhooks.delivery import WebhookDelivery

DRAIN_S = 2.0  # after the signal; what is not finished then stays pending and is read again by the next recorder
LIMITED_DRAIN_S = 10.0  # of one beside an API process: its last files
REDIS_TIMEOUT_S = 5.0  # longer than the recorder's blocking read
STATEMENT_TIMEOUT_S = 30.0
WATCH_TIMEOUT_S = 5.0  # what takes longer is away, for an operator
RECONCILE_TIMEOUT_S = 600.0
RECONCILE_AT = time(0, 10)
RECONCILE_FIRST_AFTER_S = 60.0
RECONCILE_RETRY_S = 300.0
ARCHIVE_AT = time(2, 40)
MEASURE_EVERY_S = 2.0
REPLAY_EVERY_S = 1.0
PARTITIONS_EVERY_S = 600.0
MAIL_EVERY_S = 2.0
PLANS_EVERY_S = 5.0  # how late a planned change may be in the limits; bills name its own instant
WEBHOOKS_EVERY_S = 1.0
ALERTS_EVERY_S = 15.0
CAPTURE_EVERY_S = 1.0
SWEEP_EVERY_S = 3600.0
RETRY_S = 5.0

_NEED_OBJECTS = ("capture", "retention", "watch-objects")  # duties of a service with an object store

Step = Callable[[], Awaitable[object]]
Duty = Callable[[asyncio.Event], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Everything one worker process does and holds. Build with `create_worker`, use once."""

    duties: Mapping[str, Duty]
    redis: Redis
    engine: AsyncEngine
    spool: Spool
    log: FilteringBoundLogger
    drain_s: float = DRAIN_S
    other_engines: tuple[AsyncEngine, ...] = ()
    objects: tuple[ObjectStore, ...] = ()

    async def run(self, stop: asyncio.Event) -> None:
        """Does every duty until `stop`, then lets each finish what it holds."""
        tasks = [asyncio.create_task(self._endure(name, stop), name=name) for name in self.duties]
        try:
            await stop.wait()
            if tasks:
                await asyncio.wait(tasks, timeout=self.drain_s)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.spool.close()
            await self.redis.aclose()
            for engine in (self.engine, *self.other_engines):
                await engine.dispose()
            for objects in self.objects:
                await objects.aclose()

    async def _endure(self, name: str, stop: asyncio.Event) -> None:
        """The worker loop: a duty that fails for a reason nobody foresaw is told about and begun again."""
        while not stop.is_set():
            try:
                await self.duties[name](stop)
            except Exception:  # the worker loop; everything foreseen is handled inside the duty
                self.log.exception("duty failed", duty=name)
                await pause(stop, 1.0)


class Repeated:
    """A step done again and again. While a store is away it is tried again soon, and that is told once, not every time."""

    def __init__(self, step: Step, *, name: str, log: FilteringBoundLogger) -> None:
        self._step = step
        self._log = log.bind(duty=name)
        self._is_waiting = False

    async def run_every(
        self, every_s: float, stop: asyncio.Event, *, first_after_s: float = 0.0, is_last_too: bool = False
    ) -> None:
        """Now or a little later, and again that long after each end of it; `is_last_too`: once more when told to stop."""
        await pause(stop, first_after_s)
        while not stop.is_set():
            is_done = await self._attempt()
            await pause(stop, every_s if is_done else min(every_s, RETRY_S))
        if is_last_too:
            await self._attempt()

    async def run_nightly(self, at: time, stop: asyncio.Event) -> None:
        """Soon after the start, so that its gauges mean something, and then at that time of each UTC day."""
        await pause(stop, RECONCILE_FIRST_AFTER_S)
        while not stop.is_set():
            is_done = await self._attempt()
            await pause(stop, seconds_until(at, now=datetime.now(UTC)) if is_done else RECONCILE_RETRY_S)

    async def _attempt(self) -> bool:
        try:
            await self._step()
        except (*STORES_AWAY, DatabaseAwayError, SQLAlchemyError, SpoolError, ObjectStoreAwayError) as error:
            if not self._is_waiting:
                self._log.warning("duty waits", error=type(error).__name__, detail=str(error))
            self._is_waiting = True
            return False
        if self._is_waiting:
            self._log.info("duty goes on")
        self._is_waiting = False
        return True


def create_worker(settings: Settings) -> Worker:
    """A worker that has not touched anything yet."""
    metrics, log = create_metrics(), create_log(settings.log_level)
    redis = create_redis(str(settings.redis_url), timeout_s=REDIS_TIMEOUT_S)
    engine = create_engine(str(settings.database_url), pool_size=3, timeout_s=RECONCILE_TIMEOUT_S)
    # Apart, so that an hour of reconciling keeps no mail waiting.
    outbox_engine = create_engine(str(settings.database_url), pool_size=4, timeout_s=STATEMENT_TIMEOUT_S)
    watch_engine = create_engine(str(settings.database_url), pool_size=2, timeout_s=WATCH_TIMEOUT_S)
    spool = Spool(settings.spool_dir)
    open_connection = partial(connect, str(settings.database_url), timeout_s=STATEMENT_TIMEOUT_S, name="vla-worker")

    def repeated(name: str, step: Step) -> Repeated:
        return Repeated(step, name=name, log=log)

    recorder = Recorder(
        consumer=Consumer(redis, name=_own_name()),
        connect=open_connection,
        metrics=metrics,
        log=log,
        pace=Pace(batch_rows=settings.recorder_batch_rows),
    )
    replay = repeated("replay", Replay(redis=redis, spool=spool, recent=Recent(), metrics=metrics, log=log).step)
    partitions = repeated("partitions", partial(_keep_partitions, open_connection, settings.partition_days_ahead))
    objects, backup_objects = map(_opened, (settings.object_store_url, settings.backup_place))
    duties: dict[str, Duty] = {
        "record": recorder.run,
        "replay": partial(replay.run_every, REPLAY_EVERY_S),
        "partitions": partial(partitions.run_every, PARTITIONS_EVERY_S),
        "measure": partial(repeated("measure", partial(measure, redis, metrics)).run_every, MEASURE_EVERY_S),
        "plans": partial(repeated("plans", _plans(settings, redis, outbox_engine)).run_every, PLANS_EVERY_S),
        "backups": partial(repeated("backups", _backups(settings, backup_objects, metrics, log)).run_every, BACKUPS_EVERY_S),
        **_bookkeeping(settings, redis, engine, metrics, log),
        **_messages(settings, outbox_engine, metrics, log),
        **({} if objects is None else _keeping(settings, outbox_engine, objects, metrics, log)),
        **_watching(settings, redis, watch_engine, metrics, log),
    }
    return Worker(
        duties=duties,
        redis=redis,
        engine=engine,
        spool=spool,
        log=log,
        other_engines=(outbox_engine, watch_engine),
        objects=tuple(store for store in (objects, backup_objects) if store is not None),
    )


def _plans(settings: Settings, redis: Redis, engine: AsyncEngine) -> Step:
    """Changes of plans whose instant has come."""
    pepper = settings.key_pepper.get_secret_value().encode()
    return partial(apply_due, Stores(engine=engine, redis=redis, pepper=pepper, by=By(actor="worker")))


def _opened(url: SecretStr | None) -> ObjectStore | None:
    return None if url is None else create_objects(url.get_secret_value())


def _messages(settings: Settings, engine: AsyncEngine, metrics: Metrics, log: FilteringBoundLogger) -> dict[str, Duty]:
    """What leaves the house: e-mails, webhooks, and the alerts that become either."""
    steps: dict[str, tuple[Step, float]] = {
        "mail": (_mail(settings, engine, metrics, log).step, MAIL_EVERY_S),
        "webhooks": (_webhooks(settings, engine, metrics, log).step, WEBHOOKS_EVERY_S),
        "alerts": (_alerts(settings, engine, log).step, ALERTS_EVERY_S),
        "outboxes": (partial(sweep_outboxes, engine), SWEEP_EVERY_S),
    }
    return {name: partial(Repeated(step, name=name, log=log).run_every, every_s) for name, (step, every_s) in steps.items()}


def _watching(
    settings: Settings, redis: Redis, engine: AsyncEngine, metrics: Metrics, log: FilteringBoundLogger
) -> dict[str, Duty]:
    """What operators are alerted about."""
    duties: dict[str, Duty] = {
        name: partial(Repeated(look.step, name=name, log=log).run_every, look.every_s)
        for name, look in looks(settings, engine, redis, metrics, log).items()
    }
    if settings.worker_metrics_port is not None:
        duties["metrics"] = partial(serve_metrics, metrics, settings.worker_metrics_port)
    return duties


def _bookkeeping(
    settings: Settings, redis: Redis, engine: AsyncEngine, metrics: Metrics, log: FilteringBoundLogger
) -> dict[str, Duty]:
    """Rows against roll-ups and counters, months into the archive, revenue as it stands, and whether the books are true."""
    patient = partial(connect, str(settings.database_url), timeout_s=RECONCILE_TIMEOUT_S, name="vla-reconcile")
    sources = Sources(engine=engine, connect=patient, redis=redis)
    steps: dict[str, Step] = {
        "reconcile": partial(reconcile_recent, sources, metrics, log),
        "archive": partial(archive_due, settings, metrics, log),
        "revenue": partial(keep_revenue, engine, costs_of(settings)),
        "truths": HourlyCheck(engine=engine, metrics=metrics, log=log).step,
    }
    duties = {name: Repeated(step, name=name, log=log) for name, step in steps.items()}
    return {
        "reconcile": partial(duties["reconcile"].run_nightly, RECONCILE_AT),
        "archive": partial(duties["archive"].run_nightly, ARCHIVE_AT),
        "revenue": partial(duties["revenue"].run_every, REFRESH_EVERY_S, first_after_s=FIRST_AFTER_S),
        "truths": partial(duties["truths"].run_every, CHECK_EVERY_S, first_after_s=FIRST_AFTER_S),
    }


def _keeping(
    settings: Settings, engine: AsyncEngine, objects: ObjectStore, metrics: Metrics, log: FilteringBoundLogger
) -> dict[str, Duty]:
    """Captured frames into the object store, and out of it again when their time is over."""
    shipper = Shipper(
        settings.capture_dir,
        engine=engine,
        objects=objects,
        rules=rules_of(settings.capture_rules),
        idle_s=settings.capture_idle_s,
        metrics=metrics,
        log=log,
    )
    sweeper = Sweeper(engine=engine, objects=objects, metrics=metrics, log=log)
    return {
        # Told to stop, once more: the API process beside it may have just sealed its last file.
        "capture": partial(Repeated(shipper.step, name="capture", log=log).run_every, CAPTURE_EVERY_S, is_last_too=True),
        "retention": partial(
            Repeated(sweeper.step, name="retention", log=log).run_every, SWEEP_EVERY_S, first_after_s=FIRST_AFTER_S
        ),
    }


def _backups(settings: Settings, objects: ObjectStore | None, metrics: Metrics, log: FilteringBoundLogger) -> Step:
    """Backups when they are due; without a key or a place, the alarm that there are none."""
    if objects is None or settings.backup_key is None:
        return partial(asyncio.to_thread, tell_age, metrics, None)
    return BackupDuty(
        source=Source(database_url=str(settings.database_url), programs=settings.postgres_programs),
        vault=Vault(objects=objects, key=settings.backup_key.get_secret_value().encode()),
        plan=Plan(every=timedelta(hours=settings.backup_every_h), keep=keep_of(settings.backup_keep)),
        metrics=metrics,
        log=log,
    ).step


def _webhooks(settings: Settings, engine: AsyncEngine, metrics: Metrics, log: FilteringBoundLogger) -> WebhookDelivery:
    return WebhookDelivery(
        engine=engine,
        pepper=settings.key_pepper.get_secret_value().encode(),
        is_loopback_allowed=settings.webhook_allow_loopback,
        metrics=metrics,
        log=log,
    )


def _alerts(settings: Settings, engine: AsyncEngine, log: FilteringBoundLogger) -> Alerts:
    letterhead = letterhead_of(public_url=settings.public_url, docs_url=settings.docs_url, operator_email=settings.operator_email)
    return Alerts(engine=engine, letterhead=letterhead, log=log)


def _mail(settings: Settings, engine: AsyncEngine, metrics: Metrics, log: FilteringBoundLogger) -> Delivery:
    return Delivery(
        engine=engine,
        transport=transport_of(settings),
        sender=settings.mail_from,
        pepper=settings.key_pepper.get_secret_value().encode(),
        metrics=metrics,
        log=log,
    )


def run_worker(settings: Settings, *, only: Sequence[str] = ()) -> None:
    """Runs a worker in this process until it is told to stop. Synchronous: it owns its event loop."""
    worker = create_worker(settings)
    if only:
        worker = limited_to(only, worker)
    adopt_libraries(worker.log, settings.log_level)
    asyncio.run(_run_until_signal(worker))


def limited_to(only: Sequence[str], worker: Worker) -> Worker:
    """One that does these duties and answers `/metrics`: for files that no worker elsewhere can see.

    Without an object store there is nothing to ship, and it waits. Raises SettingsError naming a duty that there is not.
    """
    unknown = set(only) - {*worker.duties, *_NEED_OBJECTS}
    if unknown:
        raise SettingsError(
            f"--only: there is no duty {', '.join(sorted(unknown))}; there are {', '.join(sorted(worker.duties))}"
        )
    duties = {name: duty for name, duty in worker.duties.items() if name in {*only, "metrics"}}
    return replace(worker, duties=duties, drain_s=LIMITED_DRAIN_S)


async def _run_until_signal(worker: Worker) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    worker.log.info("worker started", pid=os.getpid())
    await worker.run(stop)
    worker.log.info("worker stopped")


async def _keep_partitions(open_connection: Connect, days: int) -> None:
    connection = await open_connection()
    try:
        await ensure_partitions(connection, days_ahead(datetime.now(UTC).date(), count=days))
    finally:
        await connection.close()


async def archive_due(settings: Settings, metrics: Metrics, log: FilteringBoundLogger) -> None:
    """Moves the months that are due out of the database; without an object store everything stays."""
    if settings.object_store_url is None:
        return
    from control_plane.usage.archive.retention import Archivist  # pyarrow is slow to load, and only this duty needs it

    objects = create_objects(settings.object_store_url.get_secret_value())
    try:
        open_connection = partial(connect, str(settings.database_url), timeout_s=RECONCILE_TIMEOUT_S, name="vla-archive")
        archivist = Archivist(connect=open_connection, objects=objects, metrics=metrics, log=log)
        await archivist.run(settings.log_retention_days)
    finally:
        await objects.aclose()


def _own_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
