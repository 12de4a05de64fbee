"""`POST /v1/signup` for anybody, and the operators' side of it. Asking tells nothing about who is a customer."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import Row

from billing.tiers import Tier
from control_plane.account.customers import CUSTOMER, CustomerReport, customer_report
from control_plane.endpoints.endpoint import Call, Endpoint
from control_plane.endpoints.pages import Page, PageQuery, before_of, page_of
from control_plane.errors import ApiError
from control_plane.identity.public_id import public_id
from control_plane.operators.roles import Admin, Support, Viewer
from control_plane.signups.verbs import NewSignup, approve, ask, list_signups, reject

_Text = Annotated[str, Meta(max_length=300)]


class SignupWish(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Who you are and what for. Leave `website` out: only programs that fill in every field they see send it."""

    company_name: _Text
    email: _Text
    use_case: Annotated[str, Meta(max_length=4000)]
    website: _Text = ""


class SignupReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """Always the same."""

    status: Literal["received"] = "received"


class SignupQuery(PageQuery, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Which sign-ups."""

    status: Literal["waiting", "approved", "rejected"] | None = None


class SignupReport(msgspec.Struct, frozen=True, kw_only=True):
    """A request for access."""

    id: str
    company_name: str
    email: str
    use_case: str
    status: str
    customer: str | None
    decided_by: str | None
    decided_at: datetime | None
    created_at: datetime


class Approval(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The body of an approval."""

    tier: Tier = Tier.FREE


class ApprovedReport(msgspec.Struct, frozen=True, kw_only=True):
    """The new customer. The key is in the welcome e-mail only."""

    signup: SignupReport
    customer: CustomerReport
    key_start: str


async def sign_up(by: None, call: Call, *, body: SignupWish) -> SignupReceipt:  # noqa: ARG001 -- anybody
    """The same answer whatever is known about the address."""
    if not body.website:
        await ask(
            call.stores,
            call.letterhead,
            NewSignup(company_name=body.company_name, email=body.email, use_case=body.use_case),
        )
    return SignupReceipt()


async def list_page(by: Viewer, call: Call, *, query: SignupQuery) -> Page[SignupReport]:  # noqa: ARG001 -- the role is what it asks for
    """Newest first."""
    before_id = before_of(query, "sup")
    rows = await list_signups(call.stores.engine, status=query.status, before_id=before_id, limit=query.limit + 1)
    return page_of(rows, query, "sup", _report)


async def approve_one(by: Support, call: Call, *, body: Approval) -> ApprovedReport:
    """Customer, key and welcome e-mail at once. A tier that costs money is for an admin to give."""
    if body.tier is not Tier.FREE and not isinstance(by, Admin):
        raise ApiError("operator_role", "A paid tier needs an operator key of the role admin.")
    done = await approve(call.stores, call.letterhead, call.id("signup", "sup"), tier=body.tier)
    return ApprovedReport(signup=_report(done.signup), customer=customer_report(done.customer), key_start=done.key_start)


async def reject_one(by: Support, call: Call) -> SignupReport:  # noqa: ARG001 -- as above
    """Nobody is told."""
    return _report(await reject(call.stores, call.id("signup", "sup")))


def _report(row: Row[Any]) -> SignupReport:
    return SignupReport(
        id=public_id("sup", row.id),
        company_name=row.company_name,
        email=row.email,
        use_case=row.use_case,
        status=row.status,
        customer=None if row.customer_id is None else public_id("cus", row.customer_id),
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        created_at=row.created_at,
    )


_WISH = {"company_name": "Acme Robotics", "email": "ops@acme.example", "use_case": "Two Frankas that sort parts."}
_SIGNUP = {
    **_WISH,
    "id": "sup_0193a6b2c4d87e1fa2b3c4d5e6f70819",
    "status": "waiting",
    "customer": None,
    "decided_by": None,
    "decided_at": None,
    "created_at": "2026-11-27T18:30:00Z",
}
_ONE = "/admin/v1/signups/{signup}"

OWN_ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/signup",
        name="sign_up",
        summary="Ask for access; the answer comes by e-mail",
        serve=sign_up,
        status=202,
        body_example=_WISH,
        answer_example={"status": "received"},
    ),
)
OPERATOR_ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/admin/v1/signups",
        name="list_signups",
        summary="Who asked for access, newest first",
        serve=list_page,
        answer_example={"data": [_SIGNUP], "next_cursor": None},
    ),
    Endpoint(
        method="POST",
        path=f"{_ONE}/approve",
        name="approve_signup",
        summary="Make the customer and a key, and send the welcome e-mail",
        serve=approve_one,
        body_example={"tier": "free"},
        answer_example={"signup": _SIGNUP, "customer": CUSTOMER, "key_start": "vla_live_ab12…"},
    ),
    Endpoint(
        method="POST",
        path=f"{_ONE}/reject",
        name="reject_signup",
        summary="Turn a request for access down; nobody is told",
        serve=reject_one,
        errors=("invalid_field",),
        answer_example={**_SIGNUP, "status": "rejected"},
    ),
)
