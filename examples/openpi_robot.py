"""openpi's own client, unchanged, against this service: `KEY=vla_live_… python examples/openpi_robot.py [OBSERVATIONS]`.

`pip install openpi-client`; nothing of ours is imported for the policy. What you have for an openpi server keeps working: change
the address and pass `api_key`. openpi's client raises RuntimeError when there is no motion; its text ends with our JSON error.
"""

import json
import sys

from camera import Camera, service
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy


def main(observations: int = 12) -> None:
    """Some steps of one episode."""
    url, key = service()
    policy = WebsocketClientPolicy(host=url.replace("http", "ws", 1), api_key=key)
    metadata = policy.get_server_metadata()
    print("model", metadata["model"], "cameras", [camera["name"] for camera in metadata["cameras"]])
    robot, camera = ActionChunkBroker(policy, action_horizon=4), Camera()
    for _ in range(observations):
        try:
            step = robot.infer({"observation/image": camera.frame(), "prompt": "pick up red cube"})
        except RuntimeError as error:
            told = json.loads(str(error).partition("\n")[2])["error"]
            sys.exit(f"{told['robot_action']}: {told['code']}: {told['message']}")
        print("move", " ".join(f"{value:+.4f}" for value in step["actions"]))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
