"""How a change of policies or replicas reaches every API process through Redis, and what Redis remembers of it.

The standing itself is left there too, for processes that cannot reach PostgreSQL; an older one never replaces a newer one. Every
function raises one of REDIS_AWAY.
"""

from redis.asyncio import Redis

from control_plane.policies.standing import Standing, decode_standing, encode_standing
from control_plane.redis import REDIS_AWAY

CHANNEL = b"vla:fleet:changed"
_NAME, _REVISION = b"vla:fleet:standing", b"vla:fleet:standing:revision"
_REMEMBER = """
if tonumber(redis.call('GET', KEYS[2]) or '-1') > tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[2])
return 1
"""


async def remember(redis: Redis, standing: Standing) -> None:
    """Leaves the standing for those who cannot reach PostgreSQL."""
    await redis.eval(_REMEMBER, 2, _NAME, _REVISION, encode_standing(standing), standing.revision)


async def recall(redis: Redis) -> Standing | None:
    """The newest that was left, or None."""
    data = await redis.get(_NAME)
    return decode_standing(data) if isinstance(data, bytes) else None


async def announce(redis: Redis, standing: Standing) -> bool:
    """Tells every process to look now. False when Redis is away: they look twice a second anyway."""
    try:
        await remember(redis, standing)
        await redis.publish(CHANNEL, b"")
    except REDIS_AWAY:
        return False
    return True
