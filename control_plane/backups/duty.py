"""What the worker does about backups: makes one when the newest is old, removes those nobody wants, tells how old the newest is.

The age is the alarm: it grows while nothing works, whatever the reason, and is infinite while there is no backup at all. Any
number of workers may do this; one of them makes the backup.
"""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from structlog.typing import FilteringBoundLogger

from control_plane.backups.dump import BackupRunningError, Source, dump
from control_plane.backups.keep import Keep, unwanted
from control_plane.backups.manifest import Kind, began_at
from control_plane.backups.programs import ProgramError
from control_plane.backups.sealing import DamagedBackupError
from control_plane.backups.store import Vault
from control_plane.metrics import Metrics

EVERY_S = 60.0
FIRST_AFTER = timedelta(minutes=2)  # a start has better things to do
_AFTER_A_FAILURE = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How often, and which are kept."""

    every: timedelta
    keep: Keep


@dataclass(slots=True, kw_only=True)
class BackupDuty:
    """One worker's part in it."""

    source: Source
    vault: Vault
    plan: Plan
    metrics: Metrics
    log: FilteringBoundLogger
    _newest_at: datetime | None = None
    _not_before: datetime = field(default_factory=lambda: datetime.now(UTC) + FIRST_AFTER)

    async def step(self) -> None:
        """One look. Raises ObjectStoreAwayError and DatabaseAwayError: the age has been told before."""
        tell_age(self.metrics, self._newest_at)  # it grows also while the store cannot be asked
        ids = [name for name in await self.vault.ids() if name.startswith(f"{Kind.DATABASE}-")]
        self._newest_at = began_at(ids[-1]) if ids else None
        tell_age(self.metrics, self._newest_at)
        now = datetime.now(UTC)
        if now >= self._not_before and (self._newest_at is None or now - self._newest_at >= self.plan.every):
            self._not_before = now + _AFTER_A_FAILURE
            await self._make()

    async def _make(self) -> None:
        outcomes, outcome = self.metrics.bookkeeping.backups, "failed"
        try:
            made = await dump(self.source, self.vault)
            outcome = "made"
        except BackupRunningError:
            outcome = "elsewhere"
            return
        except (ProgramError, DamagedBackupError) as error:
            self.log.error("backup failed", detail=str(error))
            return
        finally:
            outcomes.labels(outcome).inc()
        self._newest_at = made.began_at
        tell_age(self.metrics, self._newest_at)
        self.log.info("backup made", id=made.id, stored_bytes=made.stored_bytes, rows=sum(made.facts.rows.values()))
        if not made.facts.rows.get("customer_accounts"):  # a new machine before its restore: what came from the old one stays
            self.log.warning("nothing is removed for a backup of an empty database", id=made.id)
            return
        for old in unwanted(await self.vault.ids(), self.plan.keep):
            try:
                await self.vault.remove(old)
            except DamagedBackupError as error:
                self.log.warning("backup left alone", detail=str(error))
                continue
            outcomes.labels("removed").inc()
            self.log.info("backup removed", id=old)


def tell_age(metrics: Metrics, newest_at: datetime | None) -> None:
    """Sets the gauges; no backup at all is infinitely old."""
    if newest_at is None:
        metrics.bookkeeping.backup_age.set(math.inf)
        return
    metrics.bookkeeping.backup_age.set((datetime.now(UTC) - newest_at).total_seconds())
    metrics.bookkeeping.backup_at.set(newest_at.timestamp())
