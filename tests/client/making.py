"""Answers as the service sends them, and servers that misbehave; no import of the service."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaapi_client.results import Action, Answer, answer_from

NAMES = ["dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"]
FRAME: NDArray[np.uint8] = np.zeros((32, 48, 3), np.uint8)
HEADERS = {
    "x-request-id": "inf_1",
    "x-ratelimit-limit-requests": "100",
    "x-ratelimit-remaining-requests": "99",
    "x-ratelimit-reset-requests": "1s",
}


def told(rows: Any = None, *, decision: str = "pass", hz: float = 10.0, **changes: Any) -> dict[str, Any]:
    """The JSON of an answer."""
    chunk = [[0.0] * 7] * 8 if rows is None else rows
    action = {"values": [], "chunk": chunk, "kind": "ee_delta_rotvec", "names": NAMES, "units": ["m"] * 7}
    action |= {"frame": "robot_base", "horizon": len(chunk), "control_hz": hz}
    safety = {"decision": decision, "overall_score": 0.9, "limiting_rule": "B1.ee_linear_speed", "score_is_upper_bound": True}
    safety |= {"coverage": {"evaluated": 9, "applicable": 14}, "rules": [], "profile": "franka_panda@1"}
    usage = {f"requests_remaining_{name}": 9 for name in ("minute", "day", "month")}
    whole: dict[str, Any] = {
        "request_id": "inf_1",
        "model": "tabletop",
        "model_version": "1",
        "robot_type": "franka_panda",
        "session_id": None,
    }
    whole |= {"seq": None, "action": action, "safety": safety, "modified": False, "truncated_at": None, "expires_in_ms": 790.0}
    return whole | {"refused_for": None, "timings_ms": {"total": 5.0}, "usage": usage} | changes


def answer(rows: Any = None, *, hz: float = 10.0) -> Answer:
    """An answer with a motion."""
    return answer_from(json.dumps(told(rows, hz=hz)).encode(), HEADERS, 7.0)


def action(values: list[float], *, hz: float = 10.0) -> Action:
    """A chunk whose step k says `values[k]` in every number but the gripper's, which is 1."""
    return answer([[value] * 6 + [1.0] for value in values], hz=hz).action


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A TCP server whose every connection is handled by `serve`; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=_handled, args=(serve, connection), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def _handled(serve: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with connection:
        try:
            serve(connection)
        except OSError:
            return
