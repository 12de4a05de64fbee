"""The Redis stream between the journal and the recorders: its names, and what one consumer does with it.

An entry leaves the stream only after its row is committed (acknowledged and deleted in one step), so the stream's length is what
waits. Nothing trims it. Knows no event and no database; Redis errors pass through to the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError

STREAM = "vla:usage"
GROUP = "recorder"
FIELD = b"event"

_NEW, _OWN_PENDING = ">", "0"

# A dead process's consumer is forgotten only when nothing is pending for it: DELCONSUMER would drop those entries from the group.
_FORGET_IDLE = """
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #fields, 2 do consumer[fields[i]] = fields[i + 1] end
  if consumer.pending == 0 and consumer.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
  end
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One entry as it came. `payload` is None for an entry that was deleted while it waited for us."""

    entry_id: bytes
    payload: bytes | None


def add(pipeline: Pipeline, payload: bytes) -> None:
    """Queues the one command that makes an event durable in Redis. By its name: `xadd` looks at a dozen options first."""
    pipeline.execute_command("XADD", STREAM, "*", FIELD, payload)


class Consumer:
    """One recorder's place in the group. Its name must be its own: entries pending under it are read again after a failure."""

    def __init__(self, redis: "Redis", *, name: str) -> None:
        self._redis = redis
        self._name = name

    async def join(self) -> None:
        """Makes the group (and the stream) if Redis has neither, from the very first entry on."""
        try:
            await self._redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def read_new(self, *, count: int, block_ms: int) -> list[Delivery]:
        """Entries nobody has read yet; waits up to `block_ms` for the first."""
        return _deliveries(await self._redis.xreadgroup(GROUP, self._name, {STREAM: _NEW}, count=count, block=block_ms))

    async def read_pending(self, *, count: int) -> list[Delivery]:
        """Entries given to this consumer before and not acknowledged, oldest first."""
        return _deliveries(await self._redis.xreadgroup(GROUP, self._name, {STREAM: _OWN_PENDING}, count=count))

    async def claim_abandoned(self, *, idle_ms: int) -> None:
        """Takes over what other consumers left unacknowledged for that long; `read_pending` then gives it. Twice is harmless."""
        start: bytes | str = "0-0"
        while True:
            start, *_ = await self._redis.xautoclaim(STREAM, GROUP, self._name, idle_ms, start_id=start, count=1000)
            if start in {b"0-0", "0-0"}:
                return

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Takes them out of the group and the stream in one step."""
        ids = [delivery.entry_id for delivery in deliveries]
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.xack(STREAM, GROUP, *ids)
            pipeline.xdel(STREAM, *ids)
            await pipeline.execute()

    async def tidy(self, *, forget_after_ms: int) -> None:
        """Forgets consumers of dead processes, and rewinds the group if entries wait that it thinks are done.

        Those exist only after somebody edited the group by hand (DELCONSUMER, SETID); reading everything again is harmless.
        """
        await self._redis.eval(_FORGET_IDLE, 1, STREAM, GROUP, forget_after_ms)
        group = next(group for group in await self._redis.xinfo_groups(STREAM) if group["name"] in {GROUP, GROUP.encode()})
        if await self._redis.xlen(STREAM) > 0 and group["pending"] == 0 and group["lag"] == 0:
            await self._redis.xgroup_setid(STREAM, GROUP, id="0")


def _deliveries(answer: object) -> list[Delivery]:
    entries = cast("Sequence[tuple[bytes, Sequence[tuple[bytes, Mapping[bytes, bytes] | None]]]]", answer or ())
    return [_delivery(entry_id, fields) for _, batch in entries for entry_id, fields in batch]


def _delivery(entry_id: bytes, fields: Mapping[bytes, bytes] | None) -> Delivery:
    if not fields:
        return Delivery(entry_id=entry_id, payload=None)
    # An entry somebody added by hand without our field is kept whole, to be set aside by the recorder.
    payload = fields[FIELD] if FIELD in fields else repr(dict(fields)).encode()
    return Delivery(entry_id=entry_id, payload=payload)
