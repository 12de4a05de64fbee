"""The operators' own part of `/admin/v1`: who am I, and the audit log. Also the example to follow for other rooms' endpoints."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from control_plane.audit.reading import Filter, Line, read_lines
from control_plane.endpoints.endpoint import Call, Endpoint
from control_plane.endpoints.pages import Page, PageQuery, before_of, page_of
from control_plane.errors import ApiError
from control_plane.identity.public_id import parse_public_id, public_id
from control_plane.operators.roles import Role, Viewer, role_of

_Word = Annotated[str, Meta(max_length=200)]


class Myself(msgspec.Struct, frozen=True, kw_only=True):
    """Whose key this is."""

    id: str
    name: str
    role: Role


class AuditQuery(PageQuery, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Which lines of the log."""

    customer: _Word | None = None
    target: _Word | None = None
    actor: _Word | None = None
    action: _Word | None = None


class AuditLine(msgspec.Struct, frozen=True, kw_only=True):
    """One change."""

    id: str
    at: datetime
    actor: str
    action: str
    target: str
    customer: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request_id: str | None


async def show_me(by: Viewer, call: Call) -> Myself:  # noqa: ARG001 -- every endpoint gets the call
    """What a key is good for."""
    return Myself(id=public_id("opr", by.id), name=by.name, role=role_of(type(by)))


async def list_audit(by: Viewer, call: Call, *, query: AuditQuery) -> Page[AuditLine]:  # noqa: ARG001 -- the role is what it asks for
    """Newest first."""
    customer_id = None
    if query.customer is not None:
        customer_id = parse_public_id("cus", query.customer)
        if customer_id is None:
            raise ApiError("invalid_field", "customer must be an id such as cus_….", param="customer")
    wanted = Filter(
        customer_id=customer_id,
        target=query.target,
        actor=query.actor,
        action=query.action,
        before_id=before_of(query, "aud"),
    )
    lines = await read_lines(call.stores.engine, wanted, limit=query.limit + 1)
    return page_of(lines, query, "aud", _shown)


def _shown(line: Line) -> AuditLine:
    return AuditLine(
        id=public_id("aud", line.id),
        at=line.at,
        actor=line.actor,
        action=line.action,
        target=line.target,
        customer=None if line.customer_id is None else public_id("cus", line.customer_id),
        before=line.before,
        after=line.after,
        request_id=line.request_id,
    )


_ID = "0193a6b2c4d87e1fa2b3c4d5e6f70819"
_EXAMPLE_LINE = {
    "id": f"aud_{_ID}",
    "at": "2026-11-27T18:30:00Z",
    "actor": f"operator opr_{_ID} Ada",
    "action": "customer.change",
    "target": f"cus_{_ID}",
    "customer": f"cus_{_ID}",
    "before": {"tier": "pro"},
    "after": {"tier": "enterprise"},
    "request_id": f"inf_{_ID}",
}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/admin/v1/me",
        name="show_operator",
        summary="Whose key this is",
        serve=show_me,
        answer_example={"id": f"opr_{_ID}", "name": "Ada", "role": "admin"},
    ),
    Endpoint(
        method="GET",
        path="/admin/v1/audit",
        name="list_audit",
        summary="Who changed what, newest first",
        serve=list_audit,
        errors=("invalid_field",),
        answer_example={"data": [_EXAMPLE_LINE], "next_cursor": None},
    ),
)
