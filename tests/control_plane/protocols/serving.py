"""An application behind a real uvicorn on a loopback port, with the options of production, and openpi's own client on it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from websockets.asyncio.client import ClientConnection, connect

from control_plane.protocols.numpy_msgpack import decode, encode
from control_plane.protocols.plain_frames import PlainFrames
from tests.control_plane.eventually import eventually
from tests.control_plane.fakes import KEY

HEADERS = {"Authorization": KEY}
MAX_BYTES = 1_000_000
FRAME: NDArray[np.uint8] = np.random.default_rng(7).integers(0, 256, (224, 224, 3), dtype=np.uint8)
OBSERVATION: dict[str, Any] = {"observation/image": FRAME, "prompt": "pick up red cube"}


class _Quiet(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the test run."""
        yield


@asynccontextmanager
async def served(app: FastAPI, *, max_bytes: int = MAX_BYTES) -> AsyncIterator[str]:
    """The server's `host:port`. It is shut down at the end as on a stop signal."""
    config = uvicorn.Config(
        app,
        port=0,
        ws=PlainFrames,
        ws_max_size=max_bytes,
        ws_per_message_deflate=False,
        access_log=False,
        log_config=None,  # its own would outlive the server in this process
        timeout_graceful_shutdown=3,
    )
    server = _Quiet(config)
    task = asyncio.create_task(server.serve())

    async def is_listening() -> bool:
        return server.started

    try:
        await eventually(is_listening)
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def opened(address: str, path: str = "/openpi/policy", **options: Any) -> AsyncIterator[ClientConnection]:
    """A socket, its first message read."""
    options = {"additional_headers": HEADERS, "compression": None, "max_size": None, **options}
    async with connect(f"ws://{address}{path}", **options) as socket:
        await socket.recv()
        yield socket


@asynccontextmanager
async def openpi_client(
    address: str, *, key: str = KEY.partition(" ")[2], path: str = ""
) -> AsyncIterator[Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]]:
    """What asks openpi's own client, in a thread, because it blocks. Its metadata are the answer to an empty observation."""
    client = await asyncio.to_thread(WebsocketClientPolicy, f"ws://{address}{path}", None, key)

    async def infer(observation: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = (
            await asyncio.to_thread(client.infer, observation) if observation else client.get_server_metadata()
        )
        return found

    try:
        yield infer
    finally:
        await asyncio.to_thread(client._ws.close)


def packed(**changes: Any) -> bytes:
    """An observation as openpi's client packs it; `...` leaves a key out."""
    found = {**OBSERVATION, **changes}
    return encode({key: value for key, value in found.items() if value is not ...})


def unpacked(message: bytes | str) -> Any:
    """An action frame."""
    assert isinstance(message, bytes), message
    return decode(message)
