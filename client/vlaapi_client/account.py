"""What an account can ask about itself: usage, requests, keys, bills. Each is a call that either client asks:

    report = client.ask(account.usage(days=7))            # Client
    page = await client.ask(account.requests(limit=20))   # AsyncClient

Results are the service's own JSON objects, typed; times are ISO 8601 text, money is cents.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict, cast
from urllib.parse import quote, urlencode

from vlaapi_client.calls import Call
from vlaapi_client.results import object_from

if TYPE_CHECKING:
    from typing_extensions import Unpack

_TIME_S = 30.0


class Standing(TypedDict):
    """One limit; None is unlimited, or not known at present."""

    limit: int | None
    used: int | None
    remaining: int | None
    resets_at: str | None


class Now(TypedDict):
    """Where the account stands."""

    source: str
    minute: Standing
    day: Standing
    month: Standing
    concurrency: Standing


class DayUsage(TypedDict):
    """One UTC day."""

    day: str
    requests: int
    billable_requests: int
    refused: int
    invalid: int
    failed: int


class PolicyUsage(TypedDict):
    """One model."""

    model: str
    requests: int
    billable_requests: int


class UsageReport(TypedDict):
    """`by_model` None: it could not be counted in time."""

    tier: str
    is_test: bool
    now: Now
    by_day: list[DayUsage]
    by_model: list[PolicyUsage] | None


class RequestReport(TypedDict):
    """What became of one request."""

    id: str
    at: str
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


class RequestPage(TypedDict):
    """Newest first; `next_cursor` None: there is no more."""

    data: list[RequestReport]
    next_cursor: str | None


class Filters(TypedDict, total=False):
    """Which requests. `since` and `until` are ISO 8601 with a time zone."""

    status: str
    model: str
    robot_type: str
    session_id: str
    key: str
    since: str
    until: str
    limit: int
    cursor: str


class KeyReport(TypedDict, total=False):
    """A key, never its text."""

    id: str
    customer: str
    start: str
    name: str
    is_test: bool
    per_minute: int | None
    robots: list[str] | None
    models: list[str] | None
    allowed_ips: list[str] | None
    data_policy: str | None  # of its own: zero, standard, debug or train; None: the account's
    rotated_from: str | None
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
    created_at: str
    is_this: bool


class Keys(TypedDict):
    """All of the account's."""

    keys: list[KeyReport]


class KeyWish(TypedDict, total=False):
    """What a new key may do; what is left out is as free as the key that asks."""

    name: str
    is_test: bool
    per_minute: int | None
    expires_in_days: int | None
    robots: list[str] | None
    models: list[str] | None
    allowed_ips: list[str] | None
    data_policy: str | None


class IssuedReport(TypedDict):
    """A new key. `api_key` is told this once."""

    api_key: str
    id: str
    start: str
    name: str
    is_test: bool
    expires_at: str | None
    is_announced: bool


class RotatedReport(TypedDict):
    """The new key, and the old one with its end."""

    new: IssuedReport
    old: KeyReport


def usage(days: int = 31) -> Call[UsageReport]:
    """Now, by day, by model; and what is left."""
    return cast("Call[UsageReport]", get("/v1/usage", days=days))


def request(request_id: str) -> Call[RequestReport]:
    """What became of one request, by the id of its answer or error."""
    return cast("Call[RequestReport]", get(f"/v1/requests/{quote(request_id, safe='')}"))


def requests(**filters: Unpack[Filters]) -> Call[RequestPage]:
    """A page of the history."""
    return cast("Call[RequestPage]", get("/v1/requests", **filters))


def keys() -> Call[Keys]:
    """The account's keys."""
    return cast("Call[Keys]", get("/v1/keys"))


def create_key(**wish: Unpack[KeyWish]) -> Call[IssuedReport]:
    """One more key, never stronger than the one that asks."""
    return cast("Call[IssuedReport]", send("POST", "/v1/keys", dict(wish)))


def rotate_key(key_id: str, *, overlap_hours: int = 24) -> Call[RotatedReport]:
    """A new key in the old one's place; both work during the overlap."""
    path = f"/v1/keys/{quote(key_id, safe='')}/rotate"
    return cast("Call[RotatedReport]", send("POST", path, {"overlap_hours": overlap_hours}))


def revoke_key(key_id: str) -> Call[Mapping[str, Any]]:
    """Ends a key for good, within a second."""
    return Call("DELETE", f"/v1/keys/{quote(key_id, safe='')}", object_from, _TIME_S)


def current_month() -> Call[Mapping[str, Any]]:
    """What this month costs so far, and what it will come to."""
    return get("/v1/billing/current")


def invoices(cursor: str | None = None) -> Call[Mapping[str, Any]]:
    """The account's invoices, newest first."""
    return get("/v1/billing/invoices", cursor=cursor)


def invoice(invoice_id: str) -> Call[Mapping[str, Any]]:
    """One invoice with its lines and the prices that held."""
    return get(f"/v1/billing/invoices/{quote(invoice_id, safe='')}")


def get(path: str, **query: Any) -> Call[Mapping[str, Any]]:
    """Any address that answers a GET with a JSON object."""
    asked = urlencode({name: value for name, value in query.items() if value is not None})
    return Call("GET", f"{path}?{asked}" if asked else path, object_from, _TIME_S)


def send(method: str, path: str, body: Mapping[str, Any]) -> Call[Mapping[str, Any]]:
    """Any address that takes and gives a JSON object. A POST carries an Idempotency-Key: nothing happens twice."""
    headers = {"Content-Type": "application/json"}
    if method == "POST":
        headers["Idempotency-Key"] = str(uuid.uuid4())
    content = json.dumps(body, allow_nan=False).encode()
    return Call(method, path, object_from, _TIME_S, headers, content)
