"""LeRobot's evaluation loop with the policy on the service: `KEY=vla_live_… python examples/lerobot_loop.py [STEPS]`.

The loop is the one you have: an observation with LeRobot's names, `policy.select_action`, `policy.reset` between episodes. Only
the line that loads the policy changes. LeRobot and torch are not needed; if your observation holds tensors, so does the action.
"""

import sys
from typing import Any

import numpy as np
from camera import Camera, service

from vlaapi_client import Client, Hold, RemotePolicy

HOME_RAD = (0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785)


def observe(camera: Camera) -> dict[str, Any]:
    """As `robot.get_observation()` and LeRobot's processors leave it: float pictures (1, 3, H, W) from 0 to 1, state (1, D)."""
    return {
        "observation.images.front": (camera.frame().astype(np.float32) / 255).transpose(2, 0, 1)[None],
        "observation.state": np.array([[*HOME_RAD, 0.04]], np.float32),
        "task": "pick up red cube",
    }


def main(steps: int = 20) -> None:
    """One episode."""
    camera = Camera()
    with Client(*service(), deadline_ms=2000) as client, RemotePolicy(client) as policy:
        policy.reset()
        for _ in range(steps):
            try:
                action = policy.select_action(observe(camera))
            except Hold as hold:
                print("hold", hold)  # a robot: keep its pose
            else:
                print(action.shape, np.round(action[0], 4))  # a robot: `robot.send_action(action[0])`


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
