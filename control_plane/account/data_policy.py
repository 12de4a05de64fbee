"""The data policy over HTTP: a customer sees and changes their own, operators anyone's. The verbs are `customers.verbs`'.

A key with a data policy of its own, a test key and a scoped one may look and not change: none of them can open what it may not
use, also where it keeps as much as its customer today. A customer opts in to training here themselves, with who agreed.
"""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta
from sqlalchemy import select

from control_plane.account.keys import own_key
from control_plane.customers.data_policy import NewDataPolicy
from control_plane.customers.tables import data_consents
from control_plane.customers.verbs import CustomerSummary, set_data_policy, show_customer
from control_plane.db import database_errors
from control_plane.endpoints.endpoint import Call, Endpoint
from control_plane.errors import ApiError
from control_plane.identity.data_policy import KEEP_DAYS, MAX_KEEP_DAYS, DataPolicy
from control_plane.identity.principal import Principal
from control_plane.identity.public_id import public_id
from control_plane.identity.scope import require_unrestricted
from control_plane.operators.roles import Admin, Viewer

_NEWEST = 100


class DataPolicyWish(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The body of a PUT. `given_by`: who agreed, a person or a contract; needed for `train`."""

    policy: DataPolicy
    given_by: Annotated[str, Meta(max_length=300)] | None = None
    keep_days: Annotated[int, Meta(ge=1, le=MAX_KEEP_DAYS)] | None = None


class ConsentReport(msgspec.Struct, frozen=True, kw_only=True):
    """One agreement, as it was given."""

    id: str
    policy: DataPolicy
    version: int
    keep_days: int | None
    given_by: str
    given_at: datetime


class DataPolicyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for requests that ask for nothing less. `keep_days` of pictures; `consents` newest first."""

    customer: str
    policy: DataPolicy
    version: int
    keep_days: int
    consents: tuple[ConsentReport, ...]


async def show_own(by: Principal, call: Call) -> DataPolicyReport:
    """The customer's, whatever this key keeps."""
    return await _report(call, await show_customer(call.stores.engine, by.customer_id))


async def change_own(by: Principal, call: Call, *, body: DataPolicyWish) -> DataPolicyReport:
    """From the next request on, in every process within a second."""
    require_unrestricted(by)
    if (await own_key(call, by)).data_policy is not None:
        raise ApiError("key_restricted", "A key with a data policy of its own cannot change what is kept of its customer's.")
    return await _change(call, by.customer_id, body)


async def show_of_customer(by: Viewer, call: Call) -> DataPolicyReport:  # noqa: ARG001 -- the role is what it asks for
    """One customer's."""
    return await _report(call, await show_customer(call.stores.engine, call.id("customer", "cus")))


async def change_of_customer(by: Admin, call: Call, *, body: DataPolicyWish) -> DataPolicyReport:  # noqa: ARG001 -- as above
    """One customer's."""
    return await _change(call, call.id("customer", "cus"), body)


async def _change(call: Call, customer_id: UUID, body: DataPolicyWish) -> DataPolicyReport:
    new = NewDataPolicy(policy=body.policy, given_by=body.given_by, keep_days=body.keep_days)
    return await _report(call, (await set_data_policy(call.stores, customer_id, new)).customer)


async def _report(call: Call, customer: CustomerSummary) -> DataPolicyReport:
    of_customer = data_consents.c.customer_id == customer.id
    query = select(data_consents).where(of_customer).order_by(data_consents.c.version.desc()).limit(_NEWEST)
    with database_errors():
        async with call.stores.engine.connect() as connection:
            rows = (await connection.execute(query)).all()
    consents = tuple(
        ConsentReport(
            id=public_id("con", row.id),
            policy=DataPolicy(row.policy),
            version=row.version,
            keep_days=row.keep_days,
            given_by=row.given_by,
            given_at=row.given_at,
        )
        for row in rows
    )
    return DataPolicyReport(
        customer=public_id("cus", customer.id),
        policy=customer.data_policy,
        version=customer.data_policy_version,
        keep_days=KEEP_DAYS[customer.data_policy] if customer.data_keep_days is None else customer.data_keep_days,
        consents=consents,
    )


_ID = "0193a6b2c4d87e1fa2b3c4d5e6f70819"
_BODY = {"policy": "train", "given_by": "Dana Reyes, contract 2026-118", "keep_days": 180}
_REPORT = {
    "customer": f"cus_{_ID}",
    "policy": "train",
    "version": 2,
    "keep_days": 180,
    "consents": [
        {
            "id": f"con_{_ID}",
            "policy": "train",
            "version": 2,
            "keep_days": 180,
            "given_by": "Dana Reyes, contract 2026-118",
            "given_at": "2026-11-27T18:30:00Z",
        }
    ],
}

_OWN, _ANY = "/v1/data-policy", "/admin/v1/customers/{customer}/data-policy"

OWN_ENDPOINTS = (
    Endpoint(
        method="GET",
        path=_OWN,
        name="show_data_policy",
        summary="What is kept of your requests, and who agreed to it",
        serve=show_own,
        answer_example=_REPORT,
    ),
    Endpoint(
        method="PUT",
        path=_OWN,
        name="change_data_policy",
        summary="Keep less, or opt in to training",
        serve=change_own,
        errors=("key_restricted",),
        body_example=_BODY,
        answer_example=_REPORT,
    ),
)
OPERATOR_ENDPOINTS = (
    Endpoint(
        method="GET",
        path=_ANY,
        name="show_data_policy_of_customer",
        summary="What is kept of a customer's requests, and who agreed to it",
        serve=show_of_customer,
        answer_example=_REPORT,
    ),
    Endpoint(
        method="PUT",
        path=_ANY,
        name="change_data_policy_of_customer",
        summary="Another data policy for a customer",
        serve=change_of_customer,
        body_example=_BODY,
        answer_example=_REPORT,
    ),
)
