"""`POST /v1/inference`: our own wire. JSON, multipart or msgpack in, JSON out; a refused motion is a 200, or as asked."""

from collections.abc import Mapping
from dataclasses import dataclass

from control_plane.errors import ApiError, error_body
from control_plane.inference.answer import Answer, body_of
from control_plane.inference.observation import Inquiry
from control_plane.inference.parse import parse
from control_plane.protocols.http_wire import Written

PATH = "/v1/inference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """One request's wire; it keeps nothing."""

    errors_url: str

    def read(self, body: bytes, headers: Mapping[bytes, bytes]) -> Inquiry:
        """By content type."""
        return parse(body, headers.get(b"content-type", b"").decode("latin-1"))

    def answer(self, answer: Answer) -> Written:
        """Field by field docs/API.md."""
        if not (answer.is_refused and answer.is_rejection_an_error):
            return Written(body=body_of(answer))
        refused = ApiError("motion_refused", param=answer.verdict.limiting_rule)
        error = error_body(refused, request_id=answer.trace.public_id, errors_url=self.errors_url)["error"]
        return Written(body=body_of(answer, error=error), status=refused.kind.status)
