"""The canary through the whole service: one real inference over nginx with the demo customer's key.

The same picture and instruction as in the curl line that `make up` prints. A start is a success only when this one is answered.
"""

import base64
import json
import math
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deploy.embedded.server import StartError
from deploy.embedded.settings import ROOT
from export.contract.facts import Action

EXAMPLE_IMAGE = ROOT / "examples" / "tabletop.png"
EXAMPLE_INSTRUCTION = "pick up red cube"
_TIMEOUT_S = 10.0


def check_service(url: str, key: str, action: Action, *, image: Path = EXAMPLE_IMAGE) -> None:
    """Raises StartError unless the answer holds an action of the policy's own shape (or a refusal by the guard). Blocks."""
    question = {"image": base64.b64encode(image.read_bytes()).decode(), "instruction": EXAMPLE_INSTRUCTION}
    address = urlsplit(url)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=_TIMEOUT_S)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        connection.request("POST", "/v1/inference", json.dumps(question), headers)
        response = connection.getresponse()
        status, body = response.status, response.read()
    except (OSError, HTTPException) as error:
        raise StartError(f"the canary through nginx got no answer: {type(error).__name__}: {error}") from None
    finally:
        connection.close()
    if status != 200:
        raise StartError(f"the canary through nginx got HTTP {status}: {body[:300].decode(errors='replace')}")
    _check_shape(json.loads(body), action)


def _check_shape(answer: dict[str, Any], action: Action) -> None:
    chunk = answer["action"]["chunk"]
    if answer["safety"]["decision"] == "reject" and not chunk:
        return
    dimensions = len(action.names)
    is_whole = 1 <= len(chunk) <= action.horizon and all(len(step) == dimensions for step in chunk)
    if not is_whole or not all(math.isfinite(value) for step in chunk for value in step):
        raise StartError(f"the canary through nginx got {chunk}; the policy promises {action.horizon} steps of {dimensions}")
