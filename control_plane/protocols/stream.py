"""`WS /v1/stream`: the bodies of `POST /v1/inference` over one socket, each with an `id` of the caller's that its answer repeats.

    → {"id": 17, "request": {…}}     ← {"id": 17, "answer": {…}}  or  {"id": 17, "error": {…}}

Text messages are JSON, binary ones msgpack; an answer comes as its request came. Frames may be sent without waiting: each
session is a lane of its own, and in each the newest frame wins. Every frame gets exactly one reply. Knows no pipeline step.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from control_plane.errors import ApiError
from control_plane.identity.principal import Principal
from control_plane.inference.answer import Answer, wire_of
from control_plane.inference.fields import complaints
from control_plane.inference.parse_json import parse_json
from control_plane.inference.parse_msgpack import parse_msgpack
from control_plane.inference.trace import Trace
from control_plane.policies.offer import Offer
from control_plane.protocols.openpi import metadata
from control_plane.protocols.sockets import Frame, bounded

PATH = "/v1/stream"

Id = Annotated[int, Meta(ge=0, le=2**53)] | Annotated[str, Meta(max_length=128)]


class Envelope(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One message of a caller."""

    id: Id
    request: Raw


class _Named(msgspec.Struct):
    id: Id | None = None


_JSON, _MSGPACK = msgspec.json.Decoder(Envelope), msgspec.msgpack.Decoder(Envelope)
_ID_IN_JSON, _ID_IN_MSGPACK = msgspec.json.Decoder(_Named), msgspec.msgpack.Decoder(_Named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How to answer a frame."""

    id: int | str | None
    is_text: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One connection's wire."""

    offer: Offer
    max_bytes: int

    def hello(self, principal: Principal) -> str:
        """The metadata message: the default policy, or the first that the customer may use, as JSON. Raises unknown_model."""
        names = [policy.name for policy in self.offer.visible(principal)]
        default = self.offer.name_of(None)
        policy = self.offer.choose(principal, default if default in names else next(iter(names), default))
        told = {**metadata(policy, self.offer, principal), "max_message_bytes": self.max_bytes}
        del told["fields"], told["required"]  # the names of another wire
        return msgspec.json.encode({"metadata": told}, enc_hook=dict).decode()

    def read(self, data: bytes | str, trace: Trace) -> Frame:
        """A frame; a broken one still says whose it is, if that can be read."""
        reply = Reply(id=None, is_text=isinstance(data, str))
        try:
            bounded(data, self.max_bytes)
            with complaints("JSON" if reply.is_text else "msgpack"):
                envelope = _JSON.decode(data) if isinstance(data, str) else _MSGPACK.decode(data)
            reply = Reply(id=envelope.id, is_text=reply.is_text)
            inquiry = parse_json(bytes(envelope.request)) if reply.is_text else parse_msgpack(bytes(envelope.request))
        except ApiError as fault:
            found = reply if reply.id is not None else Reply(id=_id_in(data, self.max_bytes), is_text=reply.is_text)
            return Frame(trace=trace, lane=f"broken {trace.public_id}", inquiry=fault, correlates=True, reply_to=found)
        lane = "" if inquiry.session_id is None else f"session {inquiry.session_id}"
        return Frame(trace=trace, lane=lane, inquiry=inquiry, correlates=True, seq=inquiry.seq, reply_to=reply)

    def answer(self, frame: Frame, answer: Answer) -> bytes | str:
        """A motion, in the form of `POST /v1/inference`."""
        return _written(frame.reply_to, {"answer": wire_of(answer)})

    def error(self, frame: Frame, body: dict[str, Any]) -> bytes | str:
        """No motion."""
        return _written(frame.reply_to, body)


def _written(reply: Reply, body: dict[str, Any]) -> bytes | str:
    told = {"id": reply.id, **body}
    return msgspec.json.encode(told, enc_hook=dict).decode() if reply.is_text else msgspec.msgpack.encode(told, enc_hook=dict)


def _id_in(data: bytes | str, max_bytes: int) -> int | str | None:
    if len(data) > max_bytes:
        return None
    try:
        named = _ID_IN_JSON.decode(data) if isinstance(data, str) else _ID_IN_MSGPACK.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return named.id
