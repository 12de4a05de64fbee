"""The openpi wire: msgpack with NumPy arrays, one observation in, one action chunk out, the server speaks first.

An unmodified openpi client tells an answer from an error by its type: binary is an action, text makes it raise. So a motion
that the guard refused is text, as is everything else that went wrong: one JSON error of the table. Knows no socket and no
pipeline step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np

from control_plane.errors import ApiError
from control_plane.identity.principal import Principal
from control_plane.identity.scope import is_in_scope, require_in_scope
from control_plane.inference.answer import Answer, usage_of
from control_plane.inference.fields import Fields, complaints, inquiry_of
from control_plane.inference.observation import Inquiry
from control_plane.inference.trace import Trace
from control_plane.policies.catalogue import ServedPolicy
from control_plane.policies.offer import Offer
from control_plane.protocols.foreign_names import Foreign, flat, is_picture, is_state, numbers
from control_plane.protocols.numpy_msgpack import decode, encode
from control_plane.protocols.sockets import Frame, bounded
from safety.wire import outcome_json, verdict_json

SERVER = "vlaapi"
PATHS = ("/", "/openpi/policy")
_PROMPTS = ("prompt", "task")
_CONNECTION = (
    "model",
    "robot_type",
    "unnorm_key",
)  # may also stand in the address, for clients whose observation cannot be changed
_OWN = frozenset(Fields.__struct_fields__) - {"instruction", "state"}


@dataclass(slots=True, kw_only=True)
class Openpi:
    """One connection's wire."""

    offer: Offer
    max_bytes: int
    query: Mapping[str, str] = field(default_factory=dict)
    previous_ms: float | None = None

    def hello(self, principal: Principal) -> bytes:
        """The metadata frame. Raises unknown_model, invalid_field for what the address asks for."""
        for name in self.query:
            if name not in _CONNECTION:
                raise ApiError(
                    "invalid_field", f"The address may hold {', '.join(_CONNECTION)}, not '{name[:64]}'.", param=name[:64]
                )
        asked = self.query.get("model")
        require_in_scope(principal, None if asked is None else self.offer.name_of(asked), self.query.get("robot_type"))
        policy = self.offer.choose(principal, asked)
        return encode({**metadata(policy, self.offer, principal), "max_message_bytes": self.max_bytes})

    def read(self, data: bytes | str, trace: Trace) -> Frame:
        """A frame; what is wrong with it is raised when it is understood. Without a `seq` nothing tells replies apart."""
        try:
            inquiry = self._inquiry(data)
        except ApiError as fault:
            return Frame(trace=trace, lane="", inquiry=fault, correlates=False)
        return Frame(trace=trace, lane="", inquiry=inquiry, seq=inquiry.seq, correlates=inquiry.seq is not None)

    def _inquiry(self, data: bytes | str) -> Inquiry:
        bounded(data, self.max_bytes)
        if isinstance(data, str):
            raise ApiError("invalid_body", "Send binary messages: msgpack, as openpi's client packs it.")
        found = decode(data)
        if not isinstance(found, dict):
            raise ApiError("invalid_body", "The message is not a map.")
        return observed(found, self.query)

    def answer(self, frame: Frame, answer: Answer) -> bytes:
        """The action frame."""
        total_ms = frame.trace.total_ms()
        timing = {"infer_ms": answer.trace.stages_ms["total"]}
        if self.previous_ms is not None:
            timing["prev_total_ms"] = self.previous_ms
        self.previous_ms = total_ms
        manifest, observation, outcome = answer.observation.policy.manifest, answer.observation, outcome_json(answer.verdict)
        return encode(
            {
                "actions": np.ascontiguousarray(answer.verdict.actions, np.float32),
                "server_timing": timing,
                "request_id": frame.trace.public_id,
                "model": manifest.policy,
                "model_version": str(manifest.version),
                "robot_type": observation.robot_type,
                "session_id": observation.session_id,
                "seq": observation.seq,
                "safety": verdict_json(answer.verdict),
                "modified": outcome["modified"],
                "truncated_at": outcome["truncated_at"],
                "expires_in_ms": outcome["expires_in_ms"],
                "timings_ms": frame.trace.stages_ms,
                "usage": usage_of(answer.admission),
                "ignored": observation.ignored,
                "superseded": frame.overtook,
                "is_test": answer.is_test,
            }
        )

    def error(self, frame: Frame, body: dict[str, Any]) -> str:
        """The text frame."""
        if body["error"]["param"] == "instruction":
            body["error"]["param"] = _PROMPTS[0]
        return msgspec.json.encode({**body, "seq": frame.seq, "superseded": frame.overtook}).decode()


def observed(found: Mapping[str, Any], defaults: Mapping[str, str] = MappingProxyType({})) -> Inquiry:
    """An observation as an Inquiry that still has to be laid onto a policy. Raises ApiError naming the key."""
    own: dict[str, Any] = dict(defaults)
    pictures: dict[str, Any] = {}
    states: dict[str, tuple[float, ...]] = {}
    prompt: str | None = None
    for key, value in flat(found):
        if key in _PROMPTS:
            if prompt is not None:
                raise ApiError("invalid_instruction", "The instruction is given twice: as prompt and as task.", param=key)
            prompt = _text(key, value)
        elif key in _OWN:
            own[key] = value.item() if isinstance(value, np.generic) else value
        elif is_state(key):
            states[key] = numbers(key, value)
        elif is_picture(value):
            pictures[key] = bytes(value) if isinstance(value, memoryview) else value
        else:
            raise ApiError(
                "unknown_field", f"'{key[:128]}' is neither a picture, a state nor a field that is known.", param=key[:200]
            )
    if prompt is None:
        raise ApiError("missing_field", "The field 'prompt' is missing.", param="prompt")
    with complaints("msgpack"):
        fields = msgspec.convert({**own, "instruction": prompt}, Fields)
    return inquiry_of(fields, image=None, images={}, fit=Foreign(pictures=pictures, states=states))


def _text(key: str, value: object) -> str:
    """A text, a NumPy text, or an array of one: what openpi's own transforms take for a prompt."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if not isinstance(value, str):
        raise ApiError("invalid_instruction", f"{key}: expected text.", param=key)
    return str(value)


def metadata(policy: ServedPolicy, offer: Offer, principal: Principal) -> dict[str, Any]:
    """What a client may know before its first observation."""
    manifest, action, state, words = policy.manifest, policy.manifest.action, policy.manifest.state, policy.manifest.instruction
    required = ["prompt", *(f"images/{camera.name}" for camera in manifest.cameras if camera.is_required)]
    if state is not None and state.is_required:
        required.append("state")
    return {
        "server": SERVER,
        "model": manifest.policy,
        "model_version": str(manifest.version),
        "models": [one.name for one in offer.visible(principal) if is_in_scope(principal, one.name)],
        "required": required,
        "cameras": [
            {"name": one.name, "is_required": one.is_required, "width": one.width, "height": one.height}
            for one in manifest.cameras
        ],
        "state": None if state is None else {"names": state.names, "units": state.units, "is_required": state.is_required},
        "prompt": None if words is None else {"max_chars": words.max_chars, "max_tokens": words.max_tokens},
        "action": {
            "kind": action.kind.value,
            "names": action.names,
            "units": action.units,
            "frame": action.frame,
            "gripper_polarity": None if action.gripper_polarity is None else action.gripper_polarity.value,
            "horizon": action.horizon,
            "control_hz": action.control_hz,
            "unnorm_keys": action.unnorm_keys,
        },
        "robots": manifest.robots,
        "fields": sorted(_OWN),
    }
