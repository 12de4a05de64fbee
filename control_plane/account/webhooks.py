"""Webhooks over HTTP: a customer registers addresses, sees what was delivered, has it sent again; operators see and replay all.

A key for some robots or models, and a test key, may look but change nothing. An address is checked before anything is stored.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import Row

from control_plane.endpoints.endpoint import Call, Endpoint
from control_plane.endpoints.pages import Page, PageQuery, before_of, page_of
from control_plane.identity.principal import Principal
from control_plane.identity.public_id import public_id
from control_plane.identity.scope import require_unrestricted
from control_plane.operators.roles import Support, Viewer
from control_plane.webhooks.destination import resolve
from control_plane.webhooks.verbs import (
    DeliveryFilter,
    NewEndpoint,
    change_endpoint,
    create_endpoint,
    delete_endpoint,
    list_attempts,
    list_deliveries,
    list_endpoints,
    replay_delivery,
    rotate_secret,
    send_test,
)

_Url = Annotated[str, Meta(min_length=1, max_length=500)]
_Text = Annotated[str, Meta(max_length=200)]
_Events = Annotated[tuple[str, ...], Meta(min_length=1, max_length=20)]


class WebhookWish(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The body of a POST. Without `events`, all types are sent."""

    url: _Url
    description: _Text = ""
    events: _Events | None = None


class WebhookChange(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The body of a PATCH: what is left out stays."""

    url: _Url | UnsetType = UNSET
    description: _Text | UnsetType = UNSET
    events: _Events | UnsetType | None = UNSET
    is_enabled: bool | UnsetType = UNSET


class WebhookReport(msgspec.Struct, frozen=True, kw_only=True):
    """An address; never its secret."""

    id: str
    url: str
    description: str
    events: tuple[str, ...] | None
    is_enabled: bool
    old_secret_until: datetime | None
    created_at: datetime


class WebhookWithSecret(msgspec.Struct, frozen=True, kw_only=True):
    """`secret` is told now and never again."""

    webhook: WebhookReport
    secret: str


class Webhooks(msgspec.Struct, frozen=True, kw_only=True):
    """All of a customer's addresses, oldest first."""

    webhooks: tuple[WebhookReport, ...]


class TestSent(msgspec.Struct, frozen=True, kw_only=True):
    """The id that the message will carry."""

    message: str


class DeliveryQuery(PageQuery, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Which deliveries."""

    status: Literal["waiting", "delivered", "dead"] | None = None


class DeliveryReport(msgspec.Struct, frozen=True, kw_only=True):
    """One message on its way to one address. `message` is the webhook-id that the receiver sees."""

    id: str
    customer: str
    webhook: str
    message: str
    type: str
    status: str
    attempts: int
    last_status_code: int | None
    last_error: str | None
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    created_at: datetime


class AttemptReport(msgspec.Struct, frozen=True, kw_only=True):
    """One try. `error` says what went wrong where the receiver did not answer."""

    at: datetime
    status_code: int | None
    error: str | None
    duration_ms: int


class Attempts(msgspec.Struct, frozen=True, kw_only=True):
    """Every attempt at one delivery, oldest first, those before a replay too."""

    attempts: tuple[AttemptReport, ...]


async def list_own(by: Principal, call: Call) -> Webhooks:
    """The customer's addresses."""
    return Webhooks(webhooks=tuple(map(_report, await list_endpoints(call.stores.engine, by.customer_id))))


async def create_own(by: Principal, call: Call, *, body: WebhookWish) -> WebhookWithSecret:
    """One more address."""
    require_unrestricted(by)
    await resolve(body.url, is_loopback_allowed=call.is_loopback_allowed)
    new = NewEndpoint(url=body.url, description=body.description, events=body.events)
    made = await create_endpoint(call.stores, by.customer_id, new)
    return WebhookWithSecret(webhook=_report(made.endpoint), secret=made.secret)


async def change_own(by: Principal, call: Call, *, body: WebhookChange) -> WebhookReport:
    """Another address, types, or switched on and off."""
    require_unrestricted(by)
    webhook_id = call.id("webhook", "whe")
    changes: dict[str, Any] = {name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not UNSET}
    if "url" in changes:
        await resolve(changes["url"], is_loopback_allowed=call.is_loopback_allowed)
    return _report(await change_endpoint(call.stores, by.customer_id, webhook_id, changes))


async def rotate_own(by: Principal, call: Call) -> WebhookWithSecret:
    """A new signing secret; for 24 hours messages carry a signature of each."""
    require_unrestricted(by)
    made = await rotate_secret(call.stores, by.customer_id, call.id("webhook", "whe"))
    return WebhookWithSecret(webhook=_report(made.endpoint), secret=made.secret)


async def delete_own(by: Principal, call: Call) -> None:
    """Nothing is sent there any more."""
    require_unrestricted(by)
    await delete_endpoint(call.stores, by.customer_id, call.id("webhook", "whe"))


async def test_own(by: Principal, call: Call) -> TestSent:
    """A message to try the receiver with."""
    require_unrestricted(by)
    return TestSent(message=public_id("msg", await send_test(call.stores, by.customer_id, call.id("webhook", "whe"))))


async def list_own_deliveries(by: Principal, call: Call, *, query: DeliveryQuery) -> Page[DeliveryReport]:
    """Newest first."""
    return await _deliveries(call, query, DeliveryFilter(customer_id=by.customer_id))


async def list_own_attempts(by: Principal, call: Call) -> Attempts:
    """What happened at each try."""
    return _attempts(await list_attempts(call.stores.engine, call.id("delivery", "whd"), customer_id=by.customer_id))


async def replay_own(by: Principal, call: Call) -> DeliveryReport:
    """The same message again, with the same id."""
    require_unrestricted(by)
    return _delivery(await replay_delivery(call.stores, call.id("delivery", "whd"), customer_id=by.customer_id))


async def list_all_deliveries(by: Viewer, call: Call, *, query: DeliveryQuery) -> Page[DeliveryReport]:  # noqa: ARG001 -- its role
    """Of all customers, newest first."""
    return await _deliveries(call, query, DeliveryFilter())


async def list_any_attempts(by: Viewer, call: Call) -> Attempts:  # noqa: ARG001 -- its role
    """What happened at each try."""
    return _attempts(await list_attempts(call.stores.engine, call.id("delivery", "whd")))


async def replay_any(by: Support, call: Call) -> DeliveryReport:  # noqa: ARG001 -- its role
    """The same message again, with the same id."""
    return _delivery(await replay_delivery(call.stores, call.id("delivery", "whd")))


async def _deliveries(call: Call, query: DeliveryQuery, wanted: DeliveryFilter) -> Page[DeliveryReport]:
    full = DeliveryFilter(customer_id=wanted.customer_id, status=query.status, before_id=before_of(query, "whd"))
    rows = await list_deliveries(call.stores.engine, full, limit=query.limit + 1)
    return page_of(rows, query, "whd", _delivery)


def _report(row: Row[Any]) -> WebhookReport:
    return WebhookReport(
        id=public_id("whe", row.id),
        url=row.url,
        description=row.description,
        events=None if row.events is None else tuple(row.events),
        is_enabled=row.is_enabled,
        old_secret_until=row.old_secret_until,
        created_at=row.created_at,
    )


def _delivery(row: Row[Any]) -> DeliveryReport:
    return DeliveryReport(
        id=public_id("whd", row.id),
        customer=public_id("cus", row.customer_id),
        webhook=public_id("whe", row.endpoint_id),
        message=public_id("msg", row.message_id),
        type=row.type,
        status=row.status,
        attempts=row.attempts,
        last_status_code=row.last_status_code,
        last_error=row.last_error,
        next_attempt_at=row.next_attempt_at if row.status == "waiting" else None,
        delivered_at=row.delivered_at,
        created_at=row.created_at,
    )


def _attempts(rows: Sequence[Row[Any]]) -> Attempts:
    return Attempts(
        attempts=tuple(
            AttemptReport(at=row.at, status_code=row.status_code, error=row.error, duration_ms=row.duration_ms) for row in rows
        )
    )


def _endpoint(method: str, path: str, name: str, summary: str, **more: Any) -> Endpoint:
    return Endpoint(method=method, path=path, name=name, summary=summary, **more)


_ID, _AT = "0193a6b2c4d87e1fa2b3c4d5e6f70819", "2026-11-27T18:30:00Z"
_WISH = {"url": "https://hooks.acme.example/vla", "events": ["usage.threshold_reached"]}
_WEBHOOK = {**_WISH, "id": f"whe_{_ID}", "description": "", "is_enabled": True, "old_secret_until": None, "created_at": _AT}
_SECRET = {"webhook": _WEBHOOK, "secret": "whsec_…"}
_DELIVERY = {
    "id": f"whd_{_ID}",
    "customer": f"cus_{_ID}",
    "webhook": f"whe_{_ID}",
    "message": f"msg_{_ID}",
    "type": "usage.threshold_reached",
    "status": "dead",
    "attempts": 11,
    "last_status_code": 500,
    "last_error": None,
    "next_attempt_at": None,
    "delivered_at": None,
    "created_at": _AT,
}
_ATTEMPTS = {"attempts": [{"at": _AT, "status_code": None, "error": "no answer within 15 s", "duration_ms": 15003}]}
_PAGE = {"data": [_DELIVERY], "next_cursor": None}
_AGAIN = {**_DELIVERY, "status": "waiting", "attempts": 0, "next_attempt_at": _AT}
_OWN, _ONE, _REFUSED = "/v1/webhooks", "/v1/webhooks/{webhook}", ("key_restricted",)

OWN_ENDPOINTS = (
    _endpoint("GET", _OWN, "list_webhooks", "Your webhooks", serve=list_own, answer_example={"webhooks": [_WEBHOOK]}),
    _endpoint(
        "POST",
        _OWN,
        "create_webhook",
        "Register an https address; its signing secret is told once",
        serve=create_own,
        status=201,
        errors=_REFUSED,
        body_example=_WISH,
        answer_example=_SECRET,
    ),
    _endpoint(
        "PATCH",
        _ONE,
        "change_webhook",
        "Another address or types; switch on and off",
        serve=change_own,
        errors=_REFUSED,
        body_example={"is_enabled": False},
        answer_example=_WEBHOOK,
    ),
    _endpoint("DELETE", _ONE, "delete_webhook", "Send nothing there any more", serve=delete_own, status=204, errors=_REFUSED),
    _endpoint(
        "POST",
        f"{_ONE}/rotate",
        "rotate_webhook_secret",
        "A new signing secret; for 24 hours both sign",
        serve=rotate_own,
        errors=_REFUSED,
        answer_example=_SECRET,
    ),
    _endpoint(
        "POST",
        f"{_ONE}/test",
        "test_webhook",
        "Send a message to try the receiver with",
        serve=test_own,
        status=202,
        errors=(*_REFUSED, "invalid_field"),
        answer_example={"message": f"msg_{_ID}"},
    ),
    _endpoint(
        "GET",
        "/v1/webhook-deliveries",
        "list_webhook_deliveries",
        "What was sent to your webhooks, newest first",
        serve=list_own_deliveries,
        answer_example=_PAGE,
    ),
    _endpoint(
        "GET",
        "/v1/webhook-deliveries/{delivery}/attempts",
        "list_webhook_attempts",
        "What happened at each try of a delivery",
        serve=list_own_attempts,
        answer_example=_ATTEMPTS,
    ),
    _endpoint(
        "POST",
        "/v1/webhook-deliveries/{delivery}/replay",
        "replay_webhook_delivery",
        "Send a message again, with the same id",
        serve=replay_own,
        errors=_REFUSED,
        answer_example=_AGAIN,
    ),
)
OPERATOR_ENDPOINTS = (
    _endpoint(
        "GET",
        "/admin/v1/webhook-deliveries",
        "list_all_webhook_deliveries",
        "What was sent to customers' webhooks, newest first",
        serve=list_all_deliveries,
        answer_example=_PAGE,
    ),
    _endpoint(
        "GET",
        "/admin/v1/webhook-deliveries/{delivery}/attempts",
        "list_any_webhook_attempts",
        "What happened at each try of a delivery",
        serve=list_any_attempts,
        answer_example=_ATTEMPTS,
    ),
    _endpoint(
        "POST",
        "/admin/v1/webhook-deliveries/{delivery}/replay",
        "replay_any_webhook_delivery",
        "Send a message again, with the same id",
        serve=replay_any,
        answer_example=_AGAIN,
    ),
)
