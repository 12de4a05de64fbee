"""A control loop against a running service, with nothing but Python's standard library.

`KEY=vla_live_… python3 examples/inference.py [PICTURE] [INSTRUCTION]` asks once and prints what a robot would do; `URL` moves
it from http://127.0.0.1:8080. It shows the four things a real loop must not forget: one kept connection, a deadline, refusals,
and errors that say what to do.
"""

import base64
import http.client
import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DEADLINE_MS = 2000
ATTEMPTS = 3
EXAMPLE = Path(__file__).with_name("tabletop.png")


class Refused(Exception):  # noqa: N818 -- reads as what happened
    """No motion: the service or its guard says what the robot should do instead."""

    def __init__(self, robot_action: str, reason: str) -> None:
        self.robot_action = robot_action
        super().__init__(reason)


class Robot:
    """One connection for the whole episode: opening one per request costs more than the inference."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = connect(parts.netloc, timeout=DEADLINE_MS / 1000 + 5)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def next_motion(self, image: bytes, instruction: str) -> list[list[float]]:
        """The chunk to execute, one row per control step. Raises Refused."""
        request = {"image": base64.b64encode(image).decode(), "instruction": instruction, "deadline_ms": DEADLINE_MS}
        for attempt in range(1, ATTEMPTS + 1):
            answer = self._ask(request)
            error = answer.get("error")
            if error is None:
                return self._motion(answer)
            if not error["is_retryable"] or attempt == ATTEMPTS:
                raise Refused(error["robot_action"], f"{error['code']}: {error['message']} ({error['request_id']})")
            time.sleep((error["retry_after_ms"] or 100) / 1000)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Ends the episode."""
        self._connection.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            self._connection.request("POST", "/v1/inference", json.dumps(request), self._headers)
            answer: dict[str, Any] = json.loads(self._connection.getresponse().read())
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise Refused("hold", f"no answer from the service ({error})") from None
        return answer

    def _motion(self, answer: dict[str, Any]) -> list[list[float]]:
        safety = answer["safety"]
        if safety["decision"] == "reject":
            raise Refused(answer["fallback"]["type"], f"the guard refused: {safety['limiting_rule']}")
        took_ms = answer["timings_ms"]["total"]
        sys.stdout.write(f"{safety['decision']}, score {safety['overall_score']} (not certified), {took_ms:.1f} ms\n")
        chunk: list[list[float]] = answer["action"]["chunk"]
        return chunk


def main() -> None:
    """Asks once and prints the motion."""
    picture = Path(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLE
    instruction = sys.argv[2] if len(sys.argv) > 2 else "pick up red cube"
    robot = Robot(
        os.environ.get("URL", "http://127.0.0.1:8080"),
        os.environ.get("KEY") or sys.exit("set KEY to an API key; `vlaapi status` shows the demo customer's"),
    )
    try:
        chunk = robot.next_motion(picture.read_bytes(), instruction)
    except Refused as refusal:
        sys.exit(f"{refusal.robot_action}: {refusal}")
    finally:
        robot.close()
    for step in chunk:
        sys.stdout.write("  ".join(f"{value:+.4f}" for value in step) + "\n")


if __name__ == "__main__":
    main()
