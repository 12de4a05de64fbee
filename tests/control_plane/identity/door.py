"""A process that does nothing but let one key in or not, as an API process does: `python -m …door POSTGRES REDIS KEY`.

It believes what it has read for an hour, so that only an announcement can change its mind. Prints "hearing", then each new
answer.
"""

import asyncio
import sys

from control_plane.db import create_engine
from control_plane.errors import ApiError
from control_plane.identity.authenticate import Authenticator
from control_plane.identity.revocation import RevocationListener
from control_plane.metrics import create_metrics
from control_plane.redis import create_redis
from tests.control_plane.identity.conftest import PEPPER


async def main(postgres_url: str, redis_url: str, key: str) -> None:
    """Runs until it is killed."""
    redis = create_redis(redis_url, timeout_s=10)
    authenticator = Authenticator(
        engine=create_engine(postgres_url, timeout_s=10), redis=redis, pepper=PEPPER, cache_s=3600, metrics=create_metrics()
    )
    listener = RevocationListener(redis=redis, authenticator=authenticator)
    listener.start()
    await listener.wait_until_hearing()
    _say("hearing")
    said = ""
    while True:
        answer = await _answer(authenticator, key)
        if answer != said:
            _say(said := answer)
        await asyncio.sleep(0.005)


async def _answer(authenticator: Authenticator, key: str) -> str:
    try:
        await authenticator.authenticate(f"Bearer {key}")
    except ApiError as error:
        return error.kind.code
    return "ok"


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
