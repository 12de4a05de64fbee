"""A control loop at the robot's own rate: `KEY=vla_live_… python examples/control_loop.py [SECONDS] [INSTRUCTION]`.

The broker asks for the next chunk while the current one is being executed, so the loop never waits for the network. Everything a
real loop must not forget is here: hold when there is nothing to execute, stop when a person is needed, say why.
"""

import sys
import time

from camera import Camera, service

from vlaapi_client import ChunkBroker, Client, Due, Plan, Stop

HZ = 20.0  # of this loop; the model's steps come at their own rate, and the broker says when to wait


def main(seconds: float = 3.0, instruction: str = "pick up red cube") -> None:
    """Runs for some seconds and says what the robot did."""
    done, camera = dict.fromkeys(Due, 0), Camera()
    with Client(*service(), deadline_ms=1000) as client:
        client.warm()
        with ChunkBroker(client, instruction, Plan(max_age_s=1.5)) as broker:
            began_s = time.monotonic()
            for tick in range(int(seconds * HZ)):
                try:
                    step = broker.step(camera.frame())
                except Stop as stop:
                    sys.exit(f"stop: {stop}")  # a robot: brake, and call somebody
                done[step.due] += 1
                if step.due is Due.MOVE and step.values is not None:
                    print("move", " ".join(f"{value:+.4f}" for value in step.values))  # a robot: execute it
                elif step.due is Due.HOLD:
                    print("hold", step.error or "")  # a robot: keep its pose
                time.sleep(max(0.0, began_s + (tick + 1) / HZ - time.monotonic()))
    print(", ".join(f"{count} × {due.value}" for due, count in done.items()))


if __name__ == "__main__":
    main(*(float(sys.argv[1]),) if len(sys.argv) > 1 else (), *sys.argv[2:3])
