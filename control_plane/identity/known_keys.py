"""What Redis remembers about keys, and how a change is announced to every process.

A record is kept for an hour, but believed for seconds only (the reader decides): the hour is for when PostgreSQL is away. A
change puts a tombstone in the record's place before it is announced, so that a slow look-up that read the old row cannot put
it back. Called by `read_through` and by the verbs of `keys` and `customers`. Every function raises one of REDIS_AWAY.
"""

from collections.abc import Iterable, Sequence

from redis.asyncio import Redis

from control_plane.identity.record import KeyRecord, decode_record, encode_record

CHANNEL = b"vla:keys:changed"
DIGEST_BYTES = 32
REMEMBERED_S = 3600

_TOMBSTONE = b""
_TOMBSTONE_S = 30  # longer than any look-up: three database waits and two of Redis, 7 s
_REMEMBER = """
if redis.call('GET', KEYS[1]) == '' then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""


def _name(digest: bytes) -> bytes:
    return b"vla:key:" + digest.hex().encode()


async def recall(redis: Redis, digest: bytes) -> KeyRecord | None:
    """What is remembered, of whatever age up to an hour."""
    data = await redis.get(_name(digest))
    return decode_record(data) if isinstance(data, bytes) and data else None


async def remember(redis: Redis, digest: bytes, record: KeyRecord) -> None:
    """Keeps a record just read, unless a change was announced since."""
    await redis.eval(_REMEMBER, 1, _name(digest), encode_record(record), REMEMBERED_S)


async def announce(redis: Redis, digests: Iterable[bytes]) -> None:
    """Makes every process look again at these keys. Call it after the commit that changed them."""
    changed = list(digests)
    if not changed:
        return
    pipeline = redis.pipeline(transaction=False)
    for digest in changed:
        pipeline.set(_name(digest), _TOMBSTONE, ex=_TOMBSTONE_S)
    pipeline.publish(CHANNEL, b"".join(changed))
    await pipeline.execute()


def announced(message: bytes) -> Sequence[bytes]:
    """The digests in one message."""
    return [message[at : at + DIGEST_BYTES] for at in range(0, len(message), DIGEST_BYTES)]
