"""Every call as a value: what to send and how to read what comes back. Both clients share these; they know no transport.

A body is built once per call, so that a repetition is the same bytes under the same Idempotency-Key and is billed once.
"""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Generic, TypedDict, TypeVar, Union

import numpy as np

from vlaapi_client.errors import InvalidRequest
from vlaapi_client.pictures import Encoding, Picture, encoded
from vlaapi_client.results import Answer, Camera, Model, answer_from, models_from

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Pictures = Union[Picture, Mapping[str, Picture]]  # one, of the model's first camera; or several by camera name
Numbers = Union[Sequence[float], "NDArray[Any]"]
Read = Callable[[bytes, Mapping[str, str], float], T]  # body, headers, round trip in ms

DEADLINE_MS_MAX = 600_000


class Fields(TypedDict, total=False):
    """What may go with pictures and instruction; the service's reference says what each does."""

    state: Numbers | None  # in the model's order and units; leave it out rather than send zeros
    model: str | None
    robot_type: str | None
    unnorm_key: str | None
    session_id: str | None  # your episode
    seq: int | None  # your count of observations; must grow within a session
    obs_age_ms: float | None
    executed_index: int | None
    network_rtt_ms: float | None
    safety: Mapping[str, Any] | None  # tighter limits for this request


@dataclass(frozen=True)
class Call(Generic[T_co]):
    """One request, however often it is sent. `deadline_s` is for all attempts together."""

    method: str
    path: str
    read: Callable[[bytes, Mapping[str, str], float], T_co]
    deadline_s: float
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    is_repeatable: bool = True


@dataclass(frozen=True)
class Defaults:
    """What a client does unless a call says otherwise. `cameras` are those of the models whose pictures may be made smaller."""

    deadline_ms: int
    encoding: Encoding
    is_repeating: bool = True
    cameras: Mapping[str, Mapping[str, Camera]] = field(default_factory=dict)


def inference(
    pictures: Pictures, instruction: str, fields: Fields, defaults: Defaults, *, deadline_ms: int | None = None
) -> Call[Answer]:
    """`POST /v1/inference`. Raises InvalidRequest for what can be seen to be wrong from here."""
    request, parts = observation(pictures, instruction, fields, defaults, deadline_ms=deadline_ms)
    body, content_type = _form(_json(request), parts)
    headers = {"Content-Type": content_type}
    if defaults.is_repeating:  # the service looks such a request up twice; one that is never repeated need not pay for that
        headers["Idempotency-Key"] = str(uuid.uuid4())
    return Call("POST", "/v1/inference", answer_from, request["deadline_ms"] / 1000, headers, body)


def observation(
    pictures: Pictures, instruction: str, fields: Fields, defaults: Defaults, *, deadline_ms: int | None = None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The fields of a request, and its pictures by part name. Raises InvalidRequest, and TypeError for a field that none has."""
    unknown = set(fields) - set(Fields.__annotations__)
    if unknown:
        raise TypeError(f"infer() has no field {', '.join(sorted(unknown))}")
    budget_ms = defaults.deadline_ms if deadline_ms is None else deadline_ms
    if not 1 <= budget_ms <= DEADLINE_MS_MAX:
        raise InvalidRequest("invalid_field", f"a deadline is 1 to {DEADLINE_MS_MAX} ms", param="deadline_ms")
    state = fields.get("state")
    numbers = None if state is None else _numbers(state, "state")
    told = {"instruction": instruction, **fields, "state": numbers, "deadline_ms": int(budget_ms)}
    cameras = defaults.cameras.get(fields.get("model") or "", {})
    request = {name: value for name, value in told.items() if value is not None}
    return request, _parts(pictures, defaults.encoding, cameras)


def models(deadline_s: float) -> Call[tuple[Model, ...]]:
    """`GET /v1/models`."""
    return Call("GET", "/v1/models", models_from, deadline_s)


def cameras_of(known: Sequence[Model]) -> Mapping[str, Mapping[str, Camera]]:
    """By model and part name; the default model also under no name, as requests have it."""
    found: dict[str, Mapping[str, Camera]] = {}
    for model in known:
        parts = {f"images.{camera.name}": camera for camera in model.cameras}
        if model.cameras:
            parts["image"] = model.cameras[0]
        found[model.id] = parts
        if model.is_default:
            found[""] = parts
    return found


def _parts(pictures: Pictures, encoding: Encoding, cameras: Mapping[str, Camera]) -> dict[str, bytes]:
    named = {f"images.{name}": one for name, one in pictures.items()} if isinstance(pictures, Mapping) else {"image": pictures}
    if any('"' in name or "\r" in name or "\n" in name for name in named):
        raise InvalidRequest("unknown_camera", "a camera's name has no quotes and no line breaks", param="images")
    return {name: encoded(one, encoding, param=name, camera=cameras.get(name)) for name, one in named.items()}


def _form(request: bytes, parts: Mapping[str, bytes]) -> tuple[bytes, str]:
    """multipart/form-data: pictures go as they are, a third smaller than as base64."""
    boundary = secrets.token_hex(16)
    pieces = [f'--{boundary}\r\nContent-Disposition: form-data; name="request"\r\n\r\n'.encode(), request]
    for name, data in parts.items():
        head = f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n\r\n'
        pieces += [head.encode(), data]
    return b"".join([*pieces, f"\r\n--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


def _numbers(values: Numbers, param: str) -> list[float]:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidRequest("invalid_state", f"{param} is a list of numbers", param=param) from None
    if array.ndim != 1:
        raise InvalidRequest("invalid_state", f"{param} is one list of numbers, not {array.ndim} dimensions", param=param)
    if not np.isfinite(array).all():
        at = int(np.flatnonzero(~np.isfinite(array))[0])
        raise InvalidRequest("invalid_state", "a number is not finite", param=f"{param}[{at}]")
    numbers: list[float] = array.tolist()
    return numbers


def _json(value: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest("invalid_field", f"this cannot be written as JSON: {error}") from None
