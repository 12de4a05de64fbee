"""Following over real PostgreSQL and Redis: with either of them away, heard or not, and at a start without both."""

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import create_engine
from control_plane.keys.verbs import Stores
from control_plane.logs import create_log
from control_plane.metrics import create_metrics
from control_plane.policies.catalogue import load_catalogue
from control_plane.policies.follow import Followed, Follower
from control_plane.policies.offer import Offer
from control_plane.policies.reload import Reload
from control_plane.policies.verbs import named, set_draining, set_enabled
from control_plane.redis import create_redis
from control_plane.replicas import Replicas, ReplicaState
from tests.control_plane.eventually import eventually
from tests.control_plane.fakes import ROOT, FakeTriton
from tests.control_plane.relay import Relay, relay_to

REPOSITORY = ROOT / "model_repository"


class Process:
    """What follows in one API process."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        catalogue = load_catalogue(REPOSITORY, default="tabletop")
        self.offer = Offer(catalogue=catalogue)
        self.replicas = Replicas({"127.0.0.1:1": FakeTriton(), "127.0.0.1:2": FakeTriton()})
        self.engine: AsyncEngine = create_engine(database_url, timeout_s=0.5)
        self.redis: Redis = create_redis(redis_url, timeout_s=0.5)
        self.follower = Follower(
            engine=self.engine,
            redis=self.redis,
            log=create_log("debug", io.BytesIO()),
            followed=Followed(
                offer=self.offer,
                replicas=self.replicas,
                reload=Reload(repository=REPOSITORY, catalogue=catalogue, triton=self.replicas, guard=lambda _: lambda: None),
                metrics=create_metrics().fleet,
            ),
        )

    @property
    def is_on(self) -> bool:
        return self.offer.standing is not None and self.offer.standing.of("tabletop").is_enabled


@asynccontextmanager
async def following(database_url: str, redis_url: str) -> AsyncIterator[Process]:
    process = Process(database_url, redis_url)
    await process.follower.load()
    process.follower.start()
    try:
        yield process
    finally:
        await process.follower.stop()
        await process.redis.aclose()
        await process.engine.dispose()


@pytest.fixture
async def operator(database_url: str, clean_redis_url: str) -> AsyncIterator[Stores]:
    engine, redis = create_engine(database_url), create_redis(clean_redis_url, timeout_s=2.0)
    yield Stores(engine=engine, redis=redis, pepper=b"")
    await redis.aclose()
    await engine.dispose()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Relay]:
    async with relay_to(database_url) as relay:
        yield relay


@pytest.fixture
async def redis(clean_redis_url: str) -> AsyncIterator[Relay]:
    async with relay_to(clean_redis_url) as relay:
        yield relay


async def test_a_change_reaches_every_process(operator: Stores, database_url: str, clean_redis_url: str) -> None:
    async with following(database_url, clean_redis_url) as one, following(database_url, clean_redis_url) as other:
        assert one.is_on
        await set_enabled(operator, named("tabletop"), is_enabled=False)
        await eventually(_are(one, other, is_on=False))
        await set_enabled(operator, named("tabletop"), is_enabled=True)
        await eventually(_are(one, other, is_on=True))


async def test_with_redis_away_it_is_found_by_looking(operator: Stores, database_url: str, redis: Relay) -> None:
    async with following(database_url, redis.url) as process:
        redis.cut()
        await set_enabled(operator, named("tabletop"), is_enabled=False)
        await eventually(_are(process, is_on=False))


async def test_with_postgresql_away_it_is_found_in_redis(operator: Stores, database: Relay, clean_redis_url: str) -> None:
    async with following(database.url, clean_redis_url) as process:
        database.cut()
        await set_enabled(operator, named("tabletop"), is_enabled=False)
        await eventually(_are(process, is_on=False))


async def test_a_start_without_postgresql_takes_what_others_left(
    operator: Stores, database_url: str, database: Relay, clean_redis_url: str
) -> None:
    async with following(database_url, clean_redis_url) as process:
        await set_enabled(operator, named("tabletop"), is_enabled=False)
        await eventually(_are(process, is_on=False))
    database.cut()
    async with following(database.url, clean_redis_url) as process:
        assert process.offer.standing is not None
        assert not process.is_on


async def test_a_start_without_anything_to_go_by_offers_nothing_until_there_is(database: Relay, clean_redis_url: str) -> None:
    database.cut()
    async with following(database.url, clean_redis_url) as process:
        assert process.offer.standing is None
        await database.mend()
        await eventually(_are(process, is_on=True))


async def test_an_older_standing_in_redis_replaces_nothing(
    operator: Stores, database_url: str, redis: Relay, database: Relay, clean_redis_url: str
) -> None:
    async with following(database_url, clean_redis_url) as other:
        await eventually(_are(other, is_on=True))
        async with following(database.url, redis.url) as process:
            redis.cut()
            await set_enabled(operator, named("tabletop"), is_enabled=False)
            await eventually(_are(process, other, is_on=False))
            await operator.redis.delete("vla:fleet:standing", "vla:fleet:standing:revision")
            assert not process.is_on


async def test_a_drain_is_followed_and_undone(operator: Stores, database_url: str, clean_redis_url: str) -> None:
    async with following(database_url, clean_redis_url) as process:
        first = process.replicas.all[0]

        def state_is(state: ReplicaState) -> "object":
            async def is_so() -> bool:
                return first.state is state

            return is_so

        await set_draining(operator, first.address, is_draining=True)
        await eventually(state_is(ReplicaState.DRAINING))  # type: ignore[arg-type]  # a coroutine function
        await set_draining(operator, first.address, is_draining=False)
        await eventually(state_is(ReplicaState.SERVING))  # type: ignore[arg-type]  # as above


def _are(*processes: Process, is_on: bool):  # type: ignore[no-untyped-def]
    async def is_so() -> bool:
        return all(process.is_on is is_on for process in processes)

    return is_so
