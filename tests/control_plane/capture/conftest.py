"""A customer who has opted in, samples of theirs, and a shipper over a real database and a real object store."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.audit.record import By
from control_plane.capture.collect import Bounds, LocalCapture
from control_plane.capture.look_again import Places
from control_plane.capture.part import MANIFEST, ROOT, Frame, Manifest, frames_in, manifest_in
from control_plane.capture.sample import Sample
from control_plane.capture.ship import Shipper
from control_plane.capture.tables import captured_episodes
from control_plane.customers.data_policy import NewDataPolicy
from control_plane.customers.verbs import set_data_policy
from control_plane.db import create_engine
from control_plane.identity.data_policy import DataPolicy
from control_plane.keys.verbs import Stores
from control_plane.logs import create_log
from control_plane.metrics import Metrics, create_metrics
from control_plane.objects import ObjectStore, create_objects
from control_plane.redis import create_redis
from control_plane.sampling import Rules
from tests.control_plane.capture.making import a_sample
from tests.control_plane.keys.conftest import a_customer


@dataclass(slots=True, kw_only=True)
class House:
    """Everything around one folder of captured frames."""

    engine: AsyncEngine
    redis: Redis
    objects: ObjectStore
    folder: Path
    customer_id: UUID
    metrics: Metrics
    rules: Rules = field(default_factory=Rules)

    def sample(self, seed: int = 0, **values: Any) -> Sample:
        """One of this customer's, valid unless said otherwise."""
        return a_sample(seed, **{"customer_id": self.customer_id, **values})

    def write(self, *samples: Sample, bounds: Bounds | None = None) -> LocalCapture:
        """Through the requests' side, in a process that has ended since."""
        capture = LocalCapture(
            self.folder,
            rules=self.rules,
            bounds=bounds or Bounds(spool_bytes=10**9, seal_s=30),
            metrics=self.metrics,
            log=create_log("error"),
        )
        capture.start()
        for sample in samples:
            capture.offer(sample)
        capture.close()
        return capture

    def shipper(self, *, objects: ObjectStore | None = None, idle_s: float = 0.0, rules: Rules | None = None) -> Shipper:
        """The worker's side; a session is over at once."""
        return Shipper(
            self.folder,
            engine=self.engine,
            objects=objects or self.objects,
            rules=rules or self.rules,
            idle_s=idle_s,
            metrics=self.metrics,
            log=create_log("error"),
        )

    async def manifests(self) -> list[Manifest]:
        """Every episode that is visible."""
        found = await self.objects.find(ROOT)
        return [manifest_in(await self.objects.get(one.key)) for one in found if one.key.endswith(MANIFEST)]

    async def frames(self) -> list[tuple[Frame, dict[str, bytes]]]:
        """Every frame of a visible episode."""
        return [
            frame
            for manifest in await self.manifests()
            for part in manifest.parts
            for frame in frames_in(await self.objects.get(part.key))
        ]

    def counted(self, outcome: str) -> float:
        """A counter of captured frames."""
        registry: CollectorRegistry = self.metrics.registry
        return registry.get_sample_value("vla_capture_frames_total", {"outcome": outcome}) or 0.0

    async def age(self, by: timedelta) -> None:
        """As if every episode had been captured so much earlier."""
        earlier = captured_episodes.c.keep_until - by
        async with self.engine.begin() as connection:
            await connection.execute(update(captured_episodes).values(keep_until=earlier))

    async def scalar(self, query: str, **values: Any) -> Any:
        """One value from the database."""
        async with self.engine.connect() as connection:
            return await connection.scalar(text(query), values)

    async def execute(self, statement: str, **values: Any) -> None:
        """One change of the database."""
        async with self.engine.begin() as connection:
            await connection.execute(text(statement), values)

    async def agree(self, policy: DataPolicy) -> None:
        """Another policy for the customer."""
        stores = Stores(engine=self.engine, redis=self.redis, pepper=b"p" * 32)
        await set_data_policy(stores, self.customer_id, NewDataPolicy(policy=policy, given_by="Dana"))

    def places(self, objects: ObjectStore | None = None, *, engine: AsyncEngine | None = None) -> Places:
        """Where deletion works, in less time than an operator would have."""
        return Places(
            engine=engine or self.engine,
            redis=self.redis,
            objects=objects or self.objects,
            by=By(actor="a test"),
            patience_s=0.1,
            waits_s=(0.01, 0.02),
        )


@pytest.fixture
async def house(database_url: str, clean_redis_url: str, objects_url: str, tmp_path: Path) -> AsyncIterator[House]:
    engine, objects = create_engine(database_url, timeout_s=30), create_objects(objects_url)
    redis = create_redis(clean_redis_url, timeout_s=5)
    created = await a_customer(Stores(engine=engine, redis=redis, pepper=b"p" * 32))
    house = House(
        engine=engine,
        redis=redis,
        objects=objects,
        folder=tmp_path / "capture",
        customer_id=created.customer.id,
        metrics=create_metrics(),
    )
    await house.agree(DataPolicy.TRAIN)
    yield house
    await objects.aclose()
    await redis.aclose()
    await engine.dispose()
