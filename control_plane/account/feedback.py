"""`POST /v1/feedback`: how a motion or a whole session went. The rules are `capture.feedback`'s."""

from typing import Annotated

import msgspec
from msgspec import Meta

from control_plane.capture.feedback import FeedbackOutcome, NewFeedback, give
from control_plane.endpoints.endpoint import Call, Endpoint
from control_plane.errors import ApiError
from control_plane.identity.principal import Principal
from control_plane.identity.public_id import public_id
from control_plane.usage.request_id import RequestIdError, parse

_STEPS, _COLUMNS = 1000, 64
_Step = Annotated[tuple[float, ...], Meta(min_length=1, max_length=_COLUMNS)]


class FeedbackWish(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The body: about `request_id`, `session_id` or both. `action`: what a correction says should have been answered."""

    outcome: FeedbackOutcome
    request_id: Annotated[str, Meta(max_length=64)] | None = None
    session_id: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    action: Annotated[tuple[_Step, ...], Meta(min_length=1, max_length=_STEPS)] | None = None


class FeedbackReport(msgspec.Struct, frozen=True, kw_only=True):
    """It is written down."""

    id: str


async def create(by: Principal, call: Call, *, body: FeedbackWish) -> FeedbackReport:
    """Any key of the customer may say how its robot did."""
    try:
        request_id = None if body.request_id is None else parse(body.request_id)
    except RequestIdError:
        raise ApiError("invalid_field", "request_id must be an id such as inf_….", param="request_id") from None
    new = NewFeedback(outcome=body.outcome, request_id=request_id, session_id=body.session_id, action=body.action)
    return FeedbackReport(id=public_id("fbk", await give(call.stores.engine, by, new)))


_ID = "0193a6b2c4d87e1fa2b3c4d5e6f70819"

OWN_ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/feedback",
        name="give_feedback",
        summary="How a motion or a session went, or what it should have been",
        serve=create,
        status=201,
        errors=("feedback_not_kept",),
        body_example={"outcome": "correction", "request_id": f"inf_{_ID}", "action": [[0.02, 0.0, -0.01, 0.0, 0.0, 0.0, 1.0]]},
        answer_example={"id": f"fbk_{_ID}"},
    ),
)
