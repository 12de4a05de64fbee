"""The worker's side: from local files to the object store, session by session; an episode's manifest is written last.

A file is removed only when every frame of it is stored, dropped for a reason that is counted, or known already; whoever is killed
in between does the same again, and the same again changes nothing: parts are named after their file and what of it they hold.
What is whole in a torn file is stored, and the rest goes with it: a tail kept aside would outlive every promise of deletion.
While the store is away files wait. What was deleted or withdrawn meanwhile is not stored. Knows no HTTP.
"""

import asyncio
import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from structlog.typing import FilteringBoundLogger

from control_plane.capture import episodes
from control_plane.capture.collect import waiting_bytes
from control_plane.capture.episodes import Episode, NewPart
from control_plane.capture.part import MANIFEST, PART, encoded, frame_of, pack, summary_of
from control_plane.capture.sample import Sample, SampleError, decode
from control_plane.capture.standing import Standing, standing_of
from control_plane.db import database_errors
from control_plane.metrics import Metrics
from control_plane.objects import ObjectStore
from control_plane.sampling import Rules
from control_plane.usage import forgotten
from control_plane.usage.forgotten import FRAMES_GATE
from control_plane.usage.request_id import instant_of
from control_plane.usage.segment import ClaimedSegment, claim, segments, torn

FEEDBACK_WAIT_S = 120.0  # how long a file is held back for feedback, where it may decide


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Frames of one file that belong together."""

    session_key: bytes
    samples: tuple[Sample, ...]


class Shipper:
    """One worker's watch over a folder. `step` does what there is to do."""

    def __init__(
        self,
        folder: Path,
        *,
        engine: AsyncEngine,
        objects: ObjectStore,
        rules: Rules,
        idle_s: float,
        metrics: Metrics,
        log: FilteringBoundLogger,
    ) -> None:
        self._folder, self._engine, self._objects = folder, engine, objects
        self._rules, self._idle_s, self._log = rules, idle_s, log
        outcomes = ("stored", "duplicate", "not_sampled", "deleted", "withdrawn", "unreadable", "torn")
        self._counts: dict[str, Counter] = {name: metrics.capture_frames.labels(outcome=name) for name in outcomes}
        self._spool_bytes = metrics.capture_spool_bytes

    async def step(self) -> int:
        """Ships every file that nobody writes, then ends the sessions that are over. Returns how many frames were stored.

        Raises ObjectStoreAwayError and DatabaseAwayError: what was not shipped waits.
        """
        stored, is_waiting = 0, False
        for path in await asyncio.to_thread(segments, self._folder) if self._folder.exists() else []:
            if self._rules.waits_for_feedback and time.time() - path.stat().st_mtime < FEEDBACK_WAIT_S:
                is_waiting = True
                continue
            segment = await asyncio.to_thread(claim, path)
            if segment is None:
                continue
            try:
                stored += await self._ship(segment)
                await asyncio.to_thread(segment.remove)
            finally:
                segment.close()
        if self._folder.exists():
            await asyncio.to_thread(self._remove_torn)
            self._spool_bytes.set(await asyncio.to_thread(waiting_bytes, self._folder))
        idle = timedelta(seconds=self._idle_s + (FEEDBACK_WAIT_S if is_waiting else 0))
        for episode in await episodes.idle(self._engine, idle):
            await self._close(episode, idle)
        return stored

    async def _ship(self, segment: ClaimedSegment) -> int:
        samples, unreadable = await asyncio.to_thread(_read, segment)
        if unreadable:
            self._counts["unreadable"].inc(unreadable)
            self._log.warning("captured frames cannot be read", segment=segment.path.name, frames=unreadable)
        if segment.is_torn:
            self._tell_torn(segment.path)
        return sum([await self._store(group, segment.path.stem) for group in grouped(samples)])

    def _remove_torn(self) -> None:
        """What older releases set aside: its whole frames were stored then."""
        for path in torn(self._folder):
            self._tell_torn(path)
            path.unlink(missing_ok=True)

    def _tell_torn(self, path: Path) -> None:
        self._counts["torn"].inc()
        self._log.warning("a torn file of captured frames is removed", segment=path.name)

    def _wanted(self, samples: Sequence[Sample], standing: Standing, known: set[UUID]) -> list[Sample]:
        wanted = []
        for sample in samples:
            if sample.request_id in known:
                outcome = "duplicate"
            elif standing.is_deleted(sample):
                outcome = "deleted"
            elif not standing.is_still_allowed(sample):
                outcome = "withdrawn"
            elif not (sample.kept_because or (self._rules.feedback and standing.has_feedback(sample))):
                outcome = "not_sampled"
            else:
                known.add(sample.request_id)
                wanted.append(sample)
                continue
            self._counts[outcome].inc()
        return wanted

    async def _store(self, group: Group, stem: str) -> int:
        """Looks what may be stored and stores it, in one transaction: no deletion passes in between."""
        with database_errors():
            async with self._engine.begin() as connection:
                await forgotten.hold(connection, FRAMES_GATE)
                standing = await standing_of(connection, group.samples)
                known = await episodes.known(connection, [sample.request_id for sample in group.samples])
                wanted = self._wanted(group.samples, standing, known)
                return await self._put(connection, replace(group, samples=tuple(wanted)), stem) if wanted else 0

    async def _put(self, connection: AsyncConnection, group: Group, stem: str) -> int:
        timed = [(sample, instant_of(sample.request_id)) for sample in group.samples]
        episode = await episodes.open_(self._engine, timed, group.session_key)
        while not await episodes.hold(connection, episode):  # ended between the two
            episode = await episodes.open_(self._engine, timed, group.session_key)
        part = await asyncio.to_thread(pack, timed)
        key = f"{episode.prefix}part-{stem}-{_content(group.samples)}{PART}"
        await self._objects.put(key, part.data)
        summary = summary_of([frame_of(sample, at) for sample, at in timed], group.samples[0].words)
        await episodes.add_part(connection, episode, NewPart(key=key, part=part, summary=summary), group.samples)
        self._counts["stored"].inc(part.frames)
        return part.frames

    async def _close(self, episode: Episode, idle: timedelta) -> None:
        """The manifest, and then the word that there is one. Frames that come later are another episode."""
        async with episodes.closing(self._engine, episode, idle) as connection:
            if connection is None:
                return
            manifest = encoded(await episodes.manifest_of(connection, episode))
            await self._objects.put(f"{episode.prefix}{MANIFEST}", manifest)
            await episodes.close(connection, episode, sha256=hashlib.sha256(manifest).digest())


def _read(segment: ClaimedSegment) -> tuple[list[Sample], int]:
    samples, unreadable = [], 0
    for payload in segment.payloads():
        try:
            samples.append(decode(payload))
        except SampleError:
            unreadable += 1
    return samples, unreadable


def grouped(samples: Iterable[Sample]) -> list[Group]:
    """By customer, terms, model, robot and session, each in the order in which it was asked."""
    found: dict[bytes, list[Sample]] = {}
    for sample in samples:
        found.setdefault(session_key(sample), []).append(sample)
    return [Group(session_key=key, samples=tuple(sorted(group, key=_moment))) for key, group in found.items()]


def _content(samples: Iterable[Sample]) -> str:
    """Which requests these are. What is wanted of one file may be more the next time: another part, never over the first."""
    return hashlib.sha256(b"".join(sorted(sample.request_id.bytes for sample in samples))).hexdigest()[:16]


def _moment(sample: Sample) -> tuple[datetime, int, UUID]:
    """Ids of one millisecond are in no order of their own."""
    return instant_of(sample.request_id), sample.seq or 0, sample.request_id


def session_key(sample: Sample) -> bytes:
    """The same for frames that belong to one episode. Requests without a session belong together by the hour only."""
    session = sample.session_id
    if session is None:
        session = f"\0{_hour(instant_of(sample.request_id))}"
    parts = (
        sample.customer_id.hex,
        sample.terms.policy,
        str(sample.terms.keep_days),
        sample.model,
        sample.robot_type,
        str(sample.is_test),
        session,
    )
    return hashlib.sha256("\0\0".join(parts).encode("utf-8", "surrogatepass")).digest()


def _hour(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H}"
