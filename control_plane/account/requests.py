"""`GET /v1/requests` and `/v1/requests/{id}`: what became of each request; the same for operators over all customers.

A customer sees their own rows, a scoped or test key only those made with it; another customer's id is one that does not exist.
An operator who only views sees no instruction and no action.
"""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta
from sqlalchemy import Row

from control_plane.account.history import Wanted, read_request, read_requests
from control_plane.endpoints.endpoint import Call, Endpoint
from control_plane.endpoints.pages import LONGEST, Cursor, Limit
from control_plane.errors import ApiError
from control_plane.identity.principal import Principal
from control_plane.identity.public_id import parse_public_id, public_id
from control_plane.identity.scope import is_restricted
from control_plane.keys.verbs import no_such
from control_plane.operators.roles import Support, Viewer
from control_plane.usage.event import UsageStatus
from control_plane.usage.request_id import RequestIdError, parse, public_form

_Word = Annotated[str, Meta(max_length=128)]


class HistoryQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Which requests. Instants are ISO 8601 with a time zone; `until` itself is not included."""

    status: UsageStatus | None = None
    model: _Word | None = None
    robot_type: _Word | None = None
    session_id: _Word | None = None
    key: _Word | None = None
    since: Annotated[datetime, Meta(tz=True)] | None = None
    until: Annotated[datetime, Meta(tz=True)] | None = None
    limit: Limit = 50
    cursor: Cursor | None = None


class RequestReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one request. `has_content` says whether instruction and action are kept and may be seen."""

    id: str
    at: datetime
    customer: str
    key: str
    route: str
    model: str
    model_version: str
    robot_type: str
    status: str
    error_code: str | None
    decision: str | None
    limiting_rule: str | None
    safety_score: float | None
    latency_ms: float
    compute_ms: float | None
    session_id: str | None
    is_billable: bool
    is_test: bool
    has_content: bool
    instruction: str | None
    action: Any


class RequestPage(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the history, newest first. Without `next_cursor` there is no more."""

    data: tuple[RequestReport, ...]
    next_cursor: str | None


async def list_own(by: Principal, call: Call, *, query: HistoryQuery) -> RequestPage:
    """A page of the customer's requests."""
    own_key = by.key_id if is_restricted(by) else None
    return await _page(call, query, customer_id=by.customer_id, only_key=own_key, is_shown=not by.is_zero_retention)


async def show_own(by: Principal, call: Call) -> RequestReport:
    """One of the customer's requests. A request is here some seconds after its answer."""
    wanted = Wanted(customer_id=by.customer_id, key_id=by.key_id if is_restricted(by) else None)
    return await _one(call, wanted, is_shown=not by.is_zero_retention)


async def list_of_customer(by: Viewer, call: Call, *, query: HistoryQuery) -> RequestPage:
    """A page of one customer's requests."""
    return await _page(call, query, customer_id=call.id("customer", "cus"), only_key=None, is_shown=isinstance(by, Support))


async def show_any(by: Viewer, call: Call) -> RequestReport:
    """Any request, by its id."""
    return await _one(call, Wanted(), is_shown=isinstance(by, Support))


async def _page(call: Call, query: HistoryQuery, *, customer_id: UUID, only_key: UUID | None, is_shown: bool) -> RequestPage:
    key_id = _id_of("key", query.key)
    if only_key is not None and key_id not in (None, only_key):
        return RequestPage(data=(), next_cursor=None)
    wanted = Wanted(
        customer_id=customer_id,
        key_id=only_key or key_id,
        status=None if query.status is None else query.status.value,
        model=query.model,
        robot_type=query.robot_type,
        session_id=query.session_id,
        since=query.since,
        until=query.until,
        before=_cursor(query.cursor),
    )
    limit = min(query.limit, LONGEST)
    rows = await read_requests(call.stores.engine, wanted, limit=limit + 1)
    there, is_last = rows[:limit], len(rows) <= limit
    cursor = None if is_last else public_form(there[-1].request_id)
    return RequestPage(data=tuple(_report(row, is_shown=is_shown) for row in there), next_cursor=cursor)


async def _one(call: Call, wanted: Wanted, *, is_shown: bool) -> RequestReport:
    told = call.path["request"][:100]
    try:
        request_id = parse(told)
    except RequestIdError:
        raise no_such("request", repr(told)) from None
    row = await read_request(call.stores.engine, request_id, wanted)
    if row is None:
        raise no_such("request", told)
    return _report(row, is_shown=is_shown)


def _id_of(what: str, told: str | None) -> UUID | None:
    if told is None:
        return None
    id_ = parse_public_id(what, told)
    if id_ is None:
        raise ApiError("invalid_field", f"{what} must be an id such as {what}_….", param=what)
    return id_


def _cursor(told: str | None) -> UUID | None:
    try:
        return None if told is None else parse(told)
    except RequestIdError:
        raise ApiError("invalid_field", "cursor must be a next_cursor of this list.", param="cursor") from None


def _report(row: Row[Any], *, is_shown: bool) -> RequestReport:
    has_content = is_shown and not row.is_zero_retention and row.instruction is not None
    chunk = row.action if row.action_chunk is None else row.action_chunk
    return RequestReport(
        id=public_form(row.request_id),
        at=row.timestamp,
        customer=public_id("cus", row.customer_id),
        key=public_id("key", row.key_id),
        route=row.route,
        model=row.model,
        model_version=str(row.model_version),
        robot_type=row.robot_type,
        status=row.status,
        error_code=row.error_code,
        decision=row.decision,
        limiting_rule=row.limiting_rule,
        safety_score=row.safety_score,
        latency_ms=row.latency_ms,
        compute_ms=row.compute_ms,
        session_id=row.session_id,
        is_billable=row.is_billable,
        is_test=row.is_test,
        has_content=has_content,
        instruction=row.instruction if has_content else None,
        action=chunk if has_content else None,
    )


_ID = "0193a6b2c4d87e1fa2b3c4d5e6f70819"
_EXAMPLE = {
    "id": f"inf_{_ID}",
    "at": "2026-11-27T18:30:00.123Z",
    "customer": f"cus_{_ID}",
    "key": f"key_{_ID}",
    "route": "/v1/inference",
    "model": "tabletop",
    "model_version": "1",
    "robot_type": "franka_panda",
    "status": "success",
    "error_code": None,
    "decision": "pass",
    "limiting_rule": None,
    "safety_score": 0.92,
    "latency_ms": 24.3,
    "compute_ms": 21.0,
    "session_id": "ep-17",
    "is_billable": True,
    "is_test": False,
    "has_content": True,
    "instruction": "pick up red cube",
    "action": [[0.02, 0.004, -0.01, 0.0, 0.0, 0.0, 0.0]],
}
_PAGE = {"data": [_EXAMPLE], "next_cursor": None}

OWN_ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/requests",
        name="list_requests",
        summary="What became of your requests, newest first",
        serve=list_own,
        answer_example=_PAGE,
    ),
    Endpoint(
        method="GET",
        path="/v1/requests/{request}",
        name="show_request",
        summary="What became of one request",
        serve=show_own,
        answer_example=_EXAMPLE,
    ),
)
OPERATOR_ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/admin/v1/customers/{customer}/requests",
        name="list_requests_of_customer",
        summary="What became of a customer's requests, newest first",
        serve=list_of_customer,
        answer_example=_PAGE,
    ),
    Endpoint(
        method="GET",
        path="/admin/v1/requests/{request}",
        name="show_any_request",
        summary="Any request by its id; instruction and action from the role support on",
        serve=show_any,
        answer_example=_EXAMPLE,
    ),
)
