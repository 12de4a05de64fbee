"""A policy server as openpi's is: websockets, openpi's own codec, and the policy called in the handler: all others wait.

A program of its own for the batching benchmark: `python -m benchmarks.one_at_a_time PORT FORWARD_S`. Written after the
description of openpi's server, without its code; what counts is that a forward holds up the event loop.
"""

import asyncio
import sys
import time
from typing import Any

import numpy as np
from openpi_client import msgpack_numpy
from websockets.asyncio.server import ServerConnection, serve


def infer(_observation: dict[str, Any], forward_s: float) -> dict[str, Any]:
    """The policy: a forward of fixed length."""
    time.sleep(forward_s)
    return {"actions": np.zeros((8, 7), np.float32)}


async def main(port: int, forward_s: float) -> None:
    """Serves until it is ended."""

    async def handler(connection: ServerConnection) -> None:
        await connection.send(msgpack_numpy.packb({"horizon": 8}))
        async for message in connection:
            began = time.monotonic()
            answer = infer(msgpack_numpy.unpackb(message), forward_s)  # here everybody else waits
            answer["server_timing"] = {"infer_ms": (time.monotonic() - began) * 1e3}
            await connection.send(msgpack_numpy.packb(answer))

    async with serve(handler, "127.0.0.1", port, compression=None, max_size=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
