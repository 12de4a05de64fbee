"""`POST /v1/actions/generations` and `GET /v1/actions/metadata`: SGLang's action API. JSON or msgpack, in and out.

What a policy has fixed (horizon, dimensions) may be named if it is the same, else is refused; hints about SGLang's own engine are
taken and named in `ignored`. A refused motion is an error, never an action.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from control_plane.errors import ApiError
from control_plane.identity.scope import require_in_scope
from control_plane.inference.answer import Answer, usage_of
from control_plane.inference.fields import Fields, complaints, inquiry_of, picture
from control_plane.inference.observation import Inquiry, PictureData
from control_plane.inference.parse_json import bounded_json
from control_plane.policies.offer import Offer
from control_plane.policies.routes import Authenticate
from control_plane.protocols.foreign_names import Foreign, numbers
from control_plane.protocols.http_wire import Written, content_type_of, refusal
from control_plane.protocols.numpy_msgpack import decode, encode
from export.contract.manifest import Manifest
from safety.wire import outcome_json, verdict_json

PATH = "/v1/actions/generations"
METADATA_PATH = "/v1/actions/metadata"
MAX_LISTED_NUMBERS = 400_000  # in a JSON body: two small pictures as lists of lists; bigger ones go as base64 or msgpack

_MSGPACK = frozenset({"application/msgpack", "application/x-msgpack"})
_OWN = frozenset(Fields.__struct_fields__) - {"instruction", "state"}
_HINTS = frozenset({"prefix_cache", "cuda_graph"})
_RUNTIME: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "return_timing": (True, False),
        "prefix_cache": (True, False, "auto"),
        "cuda_graph": (True, False, "auto"),
        "output_format": ("list", "numpy"),
        "response_format": ("envelope", "raw"),
    }
)
_PARAMETERS = frozenset({"num_inference_steps", "action_horizon", "action_dim"})
_TENSOR = frozenset({"values", "data", "dtype", "shape"})


@dataclass(slots=True, kw_only=True)
class Actions:
    """One request's wire; it remembers what the answer should look like."""

    errors_url: str
    runtime: dict[str, Any] = field(default_factory=dict)
    is_msgpack: bool = False

    def read(self, body: bytes, headers: Mapping[bytes, bytes]) -> Inquiry:
        """Raises ApiError naming the field at fault."""
        content_type = content_type_of(headers)
        accepted = headers.get(b"accept", b"").decode("latin-1").lower()
        self.is_msgpack = any(name in accepted for name in _MSGPACK)
        if content_type in _MSGPACK:
            found = decode(body)
        elif content_type == "application/json":
            bounded_json(body, numbers=MAX_LISTED_NUMBERS)
            with complaints("JSON"):
                found = msgspec.json.decode(body)
        else:
            raise ApiError("unsupported_media_type", "Send application/json or application/msgpack.")
        self.runtime = {"output_format": "numpy" if self.is_msgpack else "list", **_runtime(found)}
        if self.runtime["output_format"] == "numpy" and not self.is_msgpack:
            raise ApiError("invalid_field", "numpy needs Accept: application/msgpack.", param="runtime.output_format")
        return _inquiry(found)

    def answer(self, answer: Answer) -> Written:
        """The envelope, or the policy's payload alone."""
        if answer.is_refused:
            return refusal(answer, errors_url=self.errors_url)
        actions = np.ascontiguousarray(answer.verdict.actions, np.float32)
        values = actions if self.runtime["output_format"] == "numpy" else actions.tolist()
        told = _told(answer)
        if self.runtime.get("return_timing", True):
            told["timings"] = {f"{stage}_ms": round(spent_ms, 3) for stage, spent_ms in answer.trace.stages_ms.items()}
        if self.runtime.get("response_format") == "raw":
            body = {"request_id": answer.trace.public_id, "actions": values, **told}
        else:
            body = _envelope(answer, actions.shape, values, told)
        if self.is_msgpack:
            return Written(body=encode(body), content_type=b"application/msgpack")
        return Written(body=msgspec.json.encode(body, enc_hook=dict))


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionsMetadata:
    """What a policy takes and gives, in SGLang's words. Needs a key, counts against no limit."""

    offer: Offer
    authenticate: Authenticate

    async def show(self, request: Request) -> Response:
        """The default policy, or that of `?model=`."""
        principal = await self.authenticate(request.headers.get("authorization"))
        asked = request.query_params.get("model")
        require_in_scope(principal, None if asked is None else self.offer.name_of(asked), None)
        policy = self.offer.choose(principal, asked)
        return Response(msgspec.json.encode(described(policy.manifest)), media_type="application/json")


def described(manifest: Manifest) -> dict[str, Any]:
    """The body of `GET /v1/actions/metadata`."""
    action, state, camera = manifest.action, manifest.state, manifest.primary_camera
    return {
        "object": "action.metadata",
        "model": manifest.policy,
        "model_version": str(manifest.version),
        "policy_family": manifest.family,
        "input": {
            "image_keys": [one.name for one in manifest.cameras],
            "required_image_keys": [one.name for one in manifest.cameras if one.is_required],
            "image_size": [camera.height, camera.width],
            "state_dim": 0 if state is None else len(state.names),
            "state_names": [] if state is None else state.names,
            "state_units": [] if state is None else state.units,
        },
        "output": {
            "action_type": "continuous",
            "action_horizon": action.horizon,
            "action_dim": len(action.names),
            "padded_action_dim": len(action.names),
            "dtype": "float32",
            "kind": action.kind.value,
            "names": action.names,
            "units": action.units,
            "control_hz": action.control_hz,
        },
        "capabilities": {
            "exact_prefix_cache": False,
            "cuda_graph": False,
            "realtime_websocket": False,
            "openpi_websocket": True,
            "batch_inputs": False,
            "multiple_candidates": False,
        },
    }


def _told(answer: Answer) -> dict[str, Any]:
    manifest, outcome = answer.observation.policy.manifest, outcome_json(answer.verdict)
    return {
        "model_version": str(manifest.version),
        "robot_type": answer.observation.robot_type,
        "session_id": answer.observation.session_id,
        "seq": answer.observation.seq,
        "safety": verdict_json(answer.verdict),
        "modified": outcome["modified"],
        "truncated_at": outcome["truncated_at"],
        "expires_in_ms": outcome["expires_in_ms"],
        "limits": usage_of(answer.admission),
        "ignored": answer.observation.ignored,
        "is_test": answer.is_test,
    }


def _envelope(answer: Answer, shape: tuple[int, ...], values: Any, told: dict[str, Any]) -> dict[str, Any]:
    action = {"type": "continuous", "dtype": "float32", "shape": shape, "values": values}
    return {
        "id": answer.trace.public_id,
        "object": "action.generation",
        "created": int(time.time()),
        "model": answer.observation.policy.manifest.policy,
        "data": [{"index": 0, "input_index": 0, "candidate_index": 0, "action": action}],
        "usage": {"action_horizon": shape[0], "action_dim": shape[1], "prefix_cache_hit": False},
        **told,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """`fit` of an Inquiry: cameras and state by SGLang's names, and what the caller expects of the policy."""

    foreign: Foreign
    parameters: Mapping[str, Any]

    def __call__(self, inquiry: Inquiry, manifest: Manifest) -> Inquiry:
        """Raises what Foreign does, and invalid_field for what the policy has fixed otherwise."""
        fixed = {"action_horizon": manifest.action.horizon, "action_dim": len(manifest.action.names)}
        for name, value in fixed.items():
            if self.parameters.get(name, value) != value:
                raise ApiError("invalid_field", f"The model's {name} is {value}.", param=f"parameters.{name}")
        return self.foreign(inquiry, manifest)


def _inquiry(found: Any) -> Inquiry:
    body = _map(found, "", allowed=_OWN | {"input", "parameters", "runtime"})
    asked = _map(body.get("input"), "input", allowed=frozenset({"task", "prompt", "observation"}))
    observation = _map(asked.get("observation"), "input.observation", allowed=frozenset({"images", "state"}))
    parameters = _map(body.get("parameters") or {}, "parameters", allowed=_PARAMETERS)
    for name, value in parameters.items():
        if value is not None and type(value) is not int:
            raise ApiError("invalid_field", f"parameters.{name}: expected a whole number.", param=f"parameters.{name}")
    instruction = _instruction(asked)
    images = observation.get("images")
    pictures = {} if images is None else _map(images, "input.observation.images", allowed=None)
    given = {f"input.observation.images.{name}": value for name, value in pictures.items()}
    states = {"input.observation.state": observation["state"]} if observation.get("state") is not None else {}
    foreign = Foreign(
        pictures={key: _picture(key, value) for key, value in given.items()},
        states={key: numbers(key, _tensor(key, value)) for key, value in states.items()},
    )
    with complaints("a request"):
        fields = msgspec.convert({**{name: body[name] for name in _OWN & body.keys()}, "instruction": instruction}, Fields)
    fit = _Fitted(foreign=foreign, parameters={name: value for name, value in parameters.items() if value is not None})
    hints = [f"runtime.{name}" for name in (body.get("runtime") or {}) if name in _HINTS]
    hints += ["parameters.num_inference_steps"] if parameters.get("num_inference_steps") is not None else []
    return msgspec.structs.replace(inquiry_of(fields, image=None, images={}, fit=fit), ignored=tuple(hints))


def _instruction(asked: Mapping[str, Any]) -> str:
    texts = {name: asked[name] for name in ("task", "prompt") if asked.get(name) is not None}
    if len(texts) != 1:
        code, message = ("invalid_instruction", "is given twice") if texts else ("missing_field", "is missing")
        raise ApiError(code, f"The instruction {message}: input.task or input.prompt.", param="input.task")
    ((name, text),) = texts.items()
    if not isinstance(text, str):
        message = f"input.{name}: expected text; one request is one observation."
        raise ApiError("invalid_instruction", message, param=f"input.{name}")
    return text


def _runtime(found: Any) -> dict[str, Any]:
    runtime = found.get("runtime") if isinstance(found, dict) else None
    asked = _map(runtime or {}, "runtime", allowed=frozenset(_RUNTIME))
    for name, value in asked.items():
        if not any(value is choice or (isinstance(value, str) and value == choice) for choice in _RUNTIME[name]):
            choices = ", ".join(str(choice).lower() for choice in _RUNTIME[name])
            raise ApiError("invalid_field", f"runtime.{name}: expected one of {choices}.", param=f"runtime.{name}")
    return asked


def _map(value: Any, path: str, *, allowed: frozenset[str] | None) -> dict[str, Any]:
    if value is None:
        raise ApiError("missing_field", f"The field '{path}' is missing.", param=path)
    if not isinstance(value, dict):
        code = "invalid_field" if path else "invalid_body"
        raise ApiError(code, f"{path or 'The body'}: expected an object.", param=path or None)
    for name in value:
        if allowed is not None and name not in allowed:
            where = f"{path}.{name}" if path else name
            raise ApiError("unknown_field", f"The field '{where[:200]}' is not known.", param=where[:200])
    return value


def _picture(key: str, value: Any) -> PictureData:
    """A file (bin, base64 text or {"base64": …}), an array, or lists of lists of numbers."""
    if isinstance(value, dict) and value.keys() <= {"base64", "mime_type"} and isinstance(value.get("base64"), str):
        value = value["base64"]
    if isinstance(value, str):
        return picture(value, param=key)
    if isinstance(value, bytes | memoryview):
        return bytes(value)
    pixels = _tensor(key, value)
    array = pixels if isinstance(pixels, np.ndarray) else _listed(key, pixels)
    if array.dtype.kind in "iu" and array.dtype != np.uint8 and array.size and array.min() >= 0 and array.max() <= 255:
        array = array.astype(np.uint8)
    return array


def _tensor(key: str, value: Any) -> Any:
    """What {"values": …, "dtype": …, "shape": …} holds; anything else is itself."""
    if not isinstance(value, dict):
        return value
    values = value.get("values", value.get("data"))
    if not value.keys() <= _TENSOR or not isinstance(values, list | np.ndarray):
        raise ApiError("invalid_field", f"{key}: neither a list, an array, nor an object with values.", param=key)
    return values


def _listed(key: str, value: Any) -> np.ndarray[Any, Any]:
    try:
        found = np.asarray(value) if isinstance(value, list) else None
    except ValueError:  # lists of unequal lengths
        found = None
    if found is None or found.dtype.kind not in "iuf":
        raise ApiError("invalid_image", f"{key}: not an image: send base64, or numbers as lists of equal lengths.", param=key)
    return found
