"""`create_app` over real PostgreSQL, Valkey and Triton, in this process or in processes of its own."""

import base64
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
from redis.asyncio import Redis

from billing.tiers import Tier
from control_plane.app import create_app
from control_plane.customers.verbs import NewCustomer, create_customer
from control_plane.db import create_engine
from control_plane.keys.verbs import IssuedKey, NewKey, Stores, create_key, list_keys
from control_plane.redis import create_redis
from control_plane.settings import Settings, load_settings
from control_plane.usage.event import UsageEvent, decode
from control_plane.usage.stream import FIELD, STREAM
from deploy.embedded.api import socket_options
from tests.control_plane.eventually import eventually
from tests.control_plane.fakes import ROOT, picture

PEPPER = "a pepper that only these tests know, of some length"
PATH = "/v1/inference"
MINIMAL: dict[str, Any] = {
    "image": base64.b64encode(picture(size=(224, 224))).decode(),
    "instruction": "pick up red cube",
}


def variables(*, database_url: str, redis_url: str, triton_url: str, spool: Path) -> dict[str, str]:
    """The environment of an API process."""
    return {
        "VLA_DATABASE_URL": database_url,
        "VLA_REDIS_URL": redis_url,
        "VLA_TRITON_URL": triton_url,
        "VLA_KEY_PEPPER": PEPPER,
        "VLA_MODEL_REPOSITORY": str(ROOT / "model_repository"),
        "VLA_SPOOL_DIR": str(spool),
        "VLA_REDIS_TIMEOUT_S": "2",
        "VLA_DEFAULT_DEADLINE_MS": "30000",
    }


def settings_of(environment: Mapping[str, str], **changes: str) -> Settings:
    """Those settings, some of them changed."""
    return load_settings({**environment, **{f"VLA_{name.upper()}": value for name, value in changes.items()}})


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application in this process, its lifespan entered."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


@asynccontextmanager
async def stores(settings: Settings) -> AsyncIterator[Stores]:
    """The stores of those settings, as the command line uses them."""
    engine = create_engine(str(settings.database_url))
    redis = create_redis(str(settings.redis_url), timeout_s=2.0)
    try:
        yield Stores(engine=engine, redis=redis, pepper=PEPPER.encode())
    finally:
        await redis.aclose()
        await engine.dispose()


async def new_key(settings: Settings, *, tier: Tier = Tier.PRO) -> IssuedKey:
    """The key of a new customer."""
    async with stores(settings) as there:
        new = NewCustomer(company_name="Acme Robotics", email=f"{os.urandom(8).hex()}@example.com", tier=tier)
        return (await create_customer(there, new, NewKey())).key


async def another_key(settings: Settings, of: IssuedKey, new: NewKey) -> IssuedKey:
    """One more key of the customer who has that one."""
    async with stores(settings) as there:
        owner = next(key.customer_id for key in await list_keys(there.engine) if key.id == of.id)
        return (await create_key(there, owner, new)).key


async def post(client: httpx.AsyncClient, key: IssuedKey, body: Mapping[str, Any] = MINIMAL) -> httpx.Response:
    """One inference."""
    content = msgspec.json.encode(body)
    headers = {"Authorization": f"Bearer {key.text}", "Content-Type": "application/json"}
    return await client.post(PATH, content=content, headers=headers)


async def events_in(redis: "Redis") -> list[UsageEvent]:
    """What waits in the stream."""
    entries: list[tuple[bytes, dict[bytes, bytes]]] = await redis.execute_command("XRANGE", STREAM, "-", "+")  # type: ignore[no-untyped-call]  # redis-py
    return [decode(fields[FIELD]) for _, fields in entries]


@contextmanager
def process(environment: Mapping[str, str], *, socket: Path, log: Path) -> Iterator[httpx.AsyncClient]:
    """An API process as `make up` starts it; gives a client of its unix socket."""
    argv = [sys.executable, "-m", "uvicorn", "control_plane.app:create_app_from_environment", "--factory", "--uds", str(socket)]
    argv += socket_options(10_000_000)
    argv += ["--lifespan", "on", "--no-access-log", "--no-server-header", "--timeout-graceful-shutdown", "3"]
    plain = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    with log.open("wb") as out:
        running_process = subprocess.Popen(argv, env={**plain, **environment}, cwd=ROOT, stdout=out, stderr=out)
    try:
        yield httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(socket)), base_url="http://test", timeout=30)
    finally:
        running_process.terminate()
        running_process.wait(timeout=20)


def pid_of(socket: Path) -> int:
    """The process that was started on that socket."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            if str(socket).encode() in entry.read_bytes().split(b"\0"):
                return int(entry.parent.name)
    raise LookupError(socket)


async def answers(client: httpx.AsyncClient) -> None:
    """Waits until the process listens."""

    async def is_there() -> bool:
        try:
            return (await client.get("/health")).status_code == 200
        except httpx.TransportError:
            return False

    await eventually(is_there, within_s=120)  # importing takes seconds of CPU, and the machine may be busy
