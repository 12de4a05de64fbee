"""The batch job: reads captured episodes, checks their hashes, writes `OUT/train` and `OUT/held_out`, each a LeRobotDataset v3.

Run again it goes on where it was, and adds what has come since; what is there is not read again. If a member was deleted or
withdrawn meanwhile, all is built anew beside the old one, which then goes. Sessions are split by hash, and a folder keeps its
share, so that no session is on both sides. Reading the next episode overlaps with encoding this one.
"""

import asyncio
import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.capture.feedback import FeedbackOutcome, of_session
from control_plane.capture.part import MANIFEST, Manifest, frames_in, manifest_in
from control_plane.datasets import folder, select
from control_plane.datasets.built import Built
from control_plane.datasets.folder import HELD_OUT, TRAIN, Mark
from control_plane.datasets.select import Asked
from control_plane.datasets.steps import Said, SkippedError, Taken, episodes_of, facts_of
from control_plane.db import DatabaseAwayError
from control_plane.errors import ApiError
from control_plane.objects import NoSuchObjectError, ObjectStore, ObjectStoreAwayError
from lerobot_v3.facts import DatasetError, DatasetFacts
from lerobot_v3.writer import SHARD_FRAMES, DatasetWriter

Told = Callable[[int, int, int], None]  # episodes looked at, of how many, frames so far


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """An episode as it came from the store."""

    row: Row[Any]
    manifest: Manifest
    frames: Sequence[Taken]
    said: Said


async def build(
    engine: AsyncEngine, objects: ObjectStore, asked: Asked, out: Path, *, fps: int | None = None, told: Told = lambda *_: None
) -> Built:
    """Raises ApiError for an `out` that is something else, and for nothing to build from."""
    found = await select.episodes(engine, asked)
    dataset_id, place = await _place(engine, asked, out)
    is_rebuilt = place != out
    if is_rebuilt:
        fps = _rate(fps, await asyncio.to_thread(folder.facts_in, out))
    if not found and not is_rebuilt:  # else: everything in it was deleted, and now goes
        raise ApiError(
            "not_found", "there is no episode that may be used: closed, whole, under train, and as asked.", param="data"
        )
    built = Built(out=out, is_rebuilt=is_rebuilt)
    job = _Job(engine=engine, objects=objects, asked=asked, place=place, fps=fps, dataset_id=dataset_id, built=built)
    await job.run(found, told)
    await select.finish(engine, dataset_id, episodes=built.episodes.total(), frames=built.frames.total())
    if is_rebuilt:
        await asyncio.to_thread(folder.swap, out)
    if await select.gone(engine, dataset_id):  # while it was being written
        return await build(engine, objects, asked, out, fps=fps, told=told)
    return built


async def _place(engine: AsyncEngine, asked: Asked, out: Path) -> tuple[UUID, Path]:
    """Where to write, and as which dataset: the one that is there, a new one, or one that takes the place of what is there."""
    await asyncio.to_thread(folder.repair, out)
    mark = await asyncio.to_thread(folder.mark_of, out)
    if mark is None:
        return await _begin(engine, asked, out, place=out), out
    if not await select.is_known(engine, mark.dataset):
        raise ApiError("invalid_field", f"{out} was built from another service's data.", param="out")
    if mark.asked.get("held_out") != asked.held_out:
        told = f"{out} holds out a share of {mark.asked.get('held_out')}: another one needs another folder."
        raise ApiError("invalid_field", f"held_out: {told}", param="held_out")
    if not await select.gone(engine, mark.dataset):
        return mark.dataset, out
    beside = folder.rebuilding(out)
    begun = await asyncio.to_thread(folder.mark_of, beside)
    if begun is not None:
        if begun.asked == asked.as_json() and not await select.gone(engine, begun.dataset):
            return begun.dataset, beside
        await asyncio.to_thread(folder.remove, beside)
    return await _begin(engine, asked, beside, place=out), beside


def _rate(wanted: int | None, there: DatasetFacts | None) -> int | None:
    """A folder keeps its own, also when it is built anew."""
    if there is None:
        return wanted
    if wanted not in {None, there.fps}:
        raise ApiError("invalid_field", f"fps: the dataset that is there has {there.fps}.", param="fps")
    return there.fps


async def _begin(engine: AsyncEngine, asked: Asked, at: Path, *, place: Path) -> UUID:
    dataset_id = await select.begin(engine, str(place), asked)
    await asyncio.to_thread(folder.make, at, Mark(dataset=dataset_id, asked=asked.as_json()))
    return dataset_id


@dataclass(slots=True, kw_only=True)
class _Job:
    engine: AsyncEngine
    objects: ObjectStore
    asked: Asked
    place: Path
    fps: int | None
    dataset_id: UUID
    built: Built
    facts: DatasetFacts | None = None
    contents: set[str] = field(default_factory=set)
    writers: dict[str, DatasetWriter] = field(default_factory=dict)
    waiting: Counter[str] = field(default_factory=Counter)  # frames of each side that are not committed

    async def run(self, found: Sequence[Row[Any]], told: Told) -> None:
        await asyncio.to_thread(self._open)
        is_whole = False
        try:
            await self._take_all(found, told)
            is_whole = True
        except (ObjectStoreAwayError, DatabaseAwayError):  # it is run again: what was read need not be read twice
            for writer in self.writers.values():
                await asyncio.to_thread(writer.commit)
            raise
        finally:
            for writer in () if is_whole else self.writers.values():
                writer.abandon()
        for split, writer in self.writers.items():
            if len(writer):
                await asyncio.to_thread(writer.finish)
            else:
                writer.abandon()
            self.built.episodes[split], self.built.frames[split] = len(writer), writer.frames

    def _open(self) -> None:
        """What is there already decides what everything else must be like."""
        self.facts = folder.facts_in(self.place)
        _rate(self.fps, self.facts)
        for split in folder.splits_in(self.place):
            self._writer(split)

    async def _take_all(self, found: Sequence[Row[Any]], told: Told) -> None:
        there = {source.partition(".")[0] for writer in self.writers.values() for source in writer.sources}
        new = [row for row in found if row.id.hex not in there]
        if known := len(found) - len(new):
            self.built.skipped["there already"] = known
        reading = [asyncio.create_task(self._read(row)) for row in new[:1]]
        try:
            for number in range(len(new)):
                read = await reading.pop()
                reading += [asyncio.create_task(self._read(row)) for row in new[number + 1 : number + 2]]
                if read is not None:
                    await self._take(read)
                told(known + number + 1, len(found), sum(writer.frames for writer in self.writers.values()))
        finally:
            for task in reading:
                task.cancel()

    async def _take(self, read: Read) -> None:
        split = self._split(read.row)
        try:
            if self.facts is None:
                self.facts = facts_of(read.manifest, read.frames, fps=self.fps)
            writer = self._writer(split)
            if not await select.join(self.engine, self.dataset_id, read.row, split):
                raise SkippedError("deleted meanwhile")
            await asyncio.to_thread(self._write, read, writer)
        except SkippedError as why:
            self.built.skipped[str(why)] += 1
        except (DatasetError, OSError) as why:
            if isinstance(why, OSError) and why.errno is not None:
                raise  # the disk, not a picture
            self.built.skipped["unreadable"] += 1
        if self.waiting[split] >= SHARD_FRAMES:  # between sessions: one is there with all its runs, or not at all
            await asyncio.to_thread(self.writers[split].commit)
            self.waiting[split] = 0

    def _write(self, read: Read, writer: DatasetWriter) -> None:
        assert self.facts is not None  # noqa: S101 -- known since the first episode
        before = writer.frames
        try:
            for episode in episodes_of(read.manifest, read.frames, read.said, self.facts):
                content = episode.source.rpartition(":")[2]
                if content in self.contents:
                    self.built.skipped["sent twice"] += 1
                    continue
                writer.add(episode)
                self.contents.add(content)
        finally:
            self.waiting[self._split(read.row)] += writer.frames - before

    def _writer(self, split: str) -> DatasetWriter:
        if split not in self.writers:
            assert self.facts is not None  # noqa: S101 -- as above
            try:
                writer = self.writers[split] = DatasetWriter(self.place / split, self.facts, shard_frames=sys.maxsize)
            except DatasetError as error:
                raise ApiError("invalid_field", f"out: {error}", param="out") from None
            self.contents |= {source.rpartition(":")[2] for source in writer.sources}
        return self.writers[split]

    def _split(self, row: Row[Any]) -> str:
        """By session, so that the same session asked again later is on the same side."""
        session = row.id.hex if row.session_id is None else row.session_id
        digest = hashlib.sha256(row.customer_id.bytes + session.encode()).digest()
        return HELD_OUT if int.from_bytes(digest[:4]) / 2**32 < self.asked.held_out else TRAIN

    async def _read(self, row: Row[Any]) -> Read | None:
        """The episode with every hash checked; None, counted, for one that is not what its row says."""
        try:
            data = await self.objects.get(f"{row.prefix}{MANIFEST}")
            manifest = manifest_in(data)
            frames: list[Taken] = []
            is_good = hashlib.sha256(data).digest() == row.manifest_sha256
            for part in manifest.parts:
                content = await self.objects.get(part.key)
                is_good &= hashlib.sha256(content).hexdigest() == part.sha256
                frames.extend(frames_in(content))
        except (NoSuchObjectError, msgspec.DecodeError):
            is_good, frames = False, []
        if not is_good or not frames:
            self.built.skipped["damaged"] += 1
            return None
        frames.sort(key=lambda taken: (taken[0].at, taken[0].seq or 0, taken[0].request_id))
        said = await self._said(row)
        if self.asked.task is not None and self.asked.task.lower() not in frames[0][0].instruction.lower():
            self.built.skipped["other task"] += 1
            return None
        if self.asked.only_success and said.is_success is not True:
            self.built.skipped["no success"] += 1
            return None
        return Read(row=row, manifest=manifest, frames=frames, said=said)

    async def _said(self, row: Row[Any]) -> Said:
        """Feedback names sessions or requests; the last word on the session holds."""
        outcome: bool | None = None
        corrections: dict[UUID, Any] = {}
        for one in await of_session(self.engine, row.customer_id, row.session_id or "", episode_id=row.id):
            if one.outcome == FeedbackOutcome.CORRECTION and one.request_id is not None:
                corrections[one.request_id] = one.action
            elif one.request_id is None or outcome is None:
                outcome = one.outcome == FeedbackOutcome.SUCCESS
        return Said(is_success=outcome, corrections=corrections)
