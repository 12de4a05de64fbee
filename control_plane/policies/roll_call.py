"""What every running API process reports about itself to the operator: what it serves, and how it sees each Triton replica.

In Redis, renewed with every look and gone seconds after the process. For people and commands only: no process decides by it.
"""

import os
import secrets
import socket
import time
from collections.abc import Sequence

import msgspec
from redis.asyncio import Redis

_INDEX = b"vla:fleet:processes"
_FRESH_S = 5.0


class PolicyReport(msgspec.Struct, frozen=True, kw_only=True):
    """A policy version that the process serves."""

    policy: str
    version: int
    model: str


class ReplicaReport(msgspec.Struct, frozen=True, kw_only=True):
    """A Triton as the process sees it."""

    address: str
    state: str
    in_flight: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One process. `refusal`: why the last wish to read the bundles again was not fulfilled."""

    process: str
    revision: int
    bundles: int
    refusal: str | None
    policies: list[PolicyReport]
    replicas: list[ReplicaReport]


_decoder = msgspec.json.Decoder(Report)


def own_name() -> str:
    """Unique over machines and restarts, and telling."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"


async def leave_report(redis: Redis, report: Report) -> None:
    """Renews it. Raises one of REDIS_AWAY."""
    now_s = time.time()
    pipeline = redis.pipeline(transaction=False)
    pipeline.hset(_INDEX, report.process, msgspec.json.encode((now_s, report)))
    pipeline.expire(_INDEX, int(_FRESH_S))
    await pipeline.execute()


async def read_reports(redis: Redis) -> Sequence[Report]:
    """Those of the last seconds, by process. Raises one of REDIS_AWAY."""
    fresh, gone = [], []
    for name, data in (await redis.hgetall(_INDEX)).items():
        left_at_s, raw = msgspec.json.decode(data, type=tuple[float, msgspec.Raw])
        if time.time() - left_at_s > _FRESH_S:
            gone.append(name)
        else:
            fresh.append(_decoder.decode(raw))
    if gone:
        await redis.hdel(_INDEX, *gone)
    return sorted(fresh, key=lambda report: report.process)
