"""Many robots in one program: `KEY=vla_live_… python examples/many_robots.py [ROBOTS] [OBSERVATIONS]`.

One AsyncClient for all of them: they share its connections, and the service batches what comes together. Each robot has a session
of its own, so that the guard compares each with itself.
"""

import asyncio
import sys

from camera import Camera, service

from vlaapi_client import AsyncClient, Hold, RetryAfter


async def drive(client: AsyncClient, name: str, observations: int) -> int:
    """One robot; says how many motions it got."""
    camera, motions = Camera(), 0
    for seq in range(observations):
        try:
            answer = await client.infer(camera.frame(), "pick up red cube", session_id=name, seq=seq)
        except RetryAfter as error:
            await asyncio.sleep(error.retry_after_s or 0.1)  # a robot: keep its pose meanwhile
        except Hold as error:
            print(f"{name}: hold, {error}")
        else:
            motions += 1
            await asyncio.sleep(answer.action.horizon / answer.action.control_hz / 4)  # a robot: execute a part of the chunk
    return motions


async def main(robots: int = 8, observations: int = 3) -> None:
    """Drives them all at once."""
    async with AsyncClient(*service(), deadline_ms=5000) as client:
        await client.warm()
        motions = await asyncio.gather(*(drive(client, f"robot-{n}", observations) for n in range(robots)))
    print(f"{robots} robots, {sum(motions)} of {robots * observations} observations answered with a motion")


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:3])))
