"""Keys over HTTP: a customer's own, with a key of theirs, and any customer's, for operators. The verbs are `keys.verbs`'.

No key can make one that may do more than itself: a test key or a scoped one makes none at all, and one with a cap, an allow list
or an end passes them on. Another customer's key is one that does not exist.
"""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from control_plane.account.key_examples import ISSUED, KEY, NEW_KEY, ROTATED
from control_plane.endpoints.endpoint import Call, Endpoint
from control_plane.errors import ApiError
from control_plane.identity.data_policy import DataPolicy, most_restrictive
from control_plane.identity.principal import Principal
from control_plane.identity.public_id import public_id
from control_plane.identity.scope import require_unrestricted
from control_plane.keys.fields import clean_networks
from control_plane.keys.verbs import (
    MAX_DAYS,
    Created,
    IssuedKey,
    KeySummary,
    NewKey,
    create_key,
    list_keys,
    no_such,
    revoke_key,
    rotate_key,
)
from control_plane.operators.roles import Support, Viewer

_Names = Annotated[tuple[str, ...], Meta(min_length=1, max_length=100)]
_Count = Annotated[int, Meta(ge=1, le=2_000_000_000)]
_Days = Annotated[int, Meta(ge=1, le=MAX_DAYS)]


class KeyWish(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The body of a POST: what is chosen about a key. A list that is left out restricts nothing."""

    name: Annotated[str, Meta(max_length=200)] = "default"
    is_test: bool = False
    per_minute: _Count | None = None
    expires_in_days: _Days | None = None
    robots: _Names | None = None
    models: _Names | None = None
    allowed_ips: _Names | None = None
    data_policy: DataPolicy | None = None

    def as_new(self) -> NewKey:
        """As the verbs take it."""
        return NewKey(
            name=self.name,
            is_test=self.is_test,
            per_minute=self.per_minute,
            expires_in_days=self.expires_in_days,
            robots=self.robots,
            policies=self.models,
            allowed_ips=self.allowed_ips,
            data_policy=self.data_policy,
        )


class RotationWish(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The body of a rotation: for how long the old key goes on working, and how long the new one lives."""

    overlap_hours: Annotated[int, Meta(ge=0, le=720)] = 24
    expires_in_days: _Days | None = None


class KeyReport(msgspec.Struct, frozen=True, kw_only=True):
    """A key as lists show it; never its text."""

    id: str
    customer: str
    start: str
    name: str
    is_test: bool
    per_minute: int | None
    robots: tuple[str, ...] | None
    models: tuple[str, ...] | None
    allowed_ips: tuple[str, ...] | None
    data_policy: str | None
    rotated_from: str | None
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    created_at: datetime
    is_this: bool | UnsetType = UNSET


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """All keys of a customer, oldest first."""

    keys: tuple[KeyReport, ...]


class IssuedReport(msgspec.Struct, frozen=True, kw_only=True):
    """A new key: `api_key` is told now and never again."""

    api_key: str
    id: str
    start: str
    name: str
    is_test: bool
    expires_at: datetime | None
    is_announced: bool


class RotatedReport(msgspec.Struct, frozen=True, kw_only=True):
    """A new key in an old one's place; the old one works until `old.expires_at`."""

    new: IssuedReport
    old: KeyReport


class KeyEnd(msgspec.Struct, frozen=True, kw_only=True):
    """A key that has ended."""

    key: KeyReport
    is_announced: bool


async def list_own(by: Principal, call: Call) -> Keys:
    """Also with a scoped key: it then sees itself only."""
    keys = await list_keys(call.stores.engine, by.customer_id)
    is_whole = not (by.is_test or by.scope.robots or by.scope.policies)
    shown = tuple(key_report(key, this=by.key_id) for key in keys if is_whole or key.id == by.key_id)
    return Keys(keys=shown)


async def create_own(by: Principal, call: Call, *, body: KeyWish) -> IssuedReport:
    """One more key, never stronger than the one that asks."""
    require_unrestricted(by)
    mine = await own_key(call, by)
    return _issued(await create_key(call.stores, by.customer_id, _within(mine, body.as_new())))


async def rotate_own(by: Principal, call: Call, *, body: RotationWish) -> RotatedReport:
    """A new key like the old one; both work during the overlap."""
    require_unrestricted(by)
    key_id, mine = call.id("key", "key"), await own_key(call, by)
    if mine.expires_at is not None or ((mine.per_minute or mine.allowed_ips or mine.data_policy) and key_id != mine.id):
        raise ApiError(
            "key_restricted", "A key with an end, a cap, an allow list or a data policy cannot rotate into one that may do more."
        )
    return await _rotate(call, key_id, body, customer_id=by.customer_id)


async def revoke_own(by: Principal, call: Call) -> KeyEnd:
    """Ends one of the customer's keys, also the one that asks."""
    require_unrestricted(by)
    revoked = await revoke_key(call.stores, call.id("key", "key"), customer_id=by.customer_id)
    return KeyEnd(key=key_report(revoked.key), is_announced=revoked.is_announced)


async def list_of_customer(by: Viewer, call: Call) -> Keys:  # noqa: ARG001 -- the role is what it asks for
    """All keys of one customer."""
    keys = await list_keys(call.stores.engine, call.id("customer", "cus"))
    return Keys(keys=tuple(map(key_report, keys)))


async def create_for_customer(by: Support, call: Call, *, body: KeyWish) -> IssuedReport:  # noqa: ARG001 -- as above
    """One more key for a customer."""
    return _issued(await create_key(call.stores, call.id("customer", "cus"), body.as_new()))


async def rotate_any(by: Support, call: Call, *, body: RotationWish) -> RotatedReport:  # noqa: ARG001 -- as above
    """A new key like the old one; both work during the overlap."""
    return await _rotate(call, call.id("key", "key"), body)


async def revoke_any(by: Support, call: Call) -> KeyEnd:  # noqa: ARG001 -- as above
    """Ends a key for good."""
    revoked = await revoke_key(call.stores, call.id("key", "key"))
    return KeyEnd(key=key_report(revoked.key), is_announced=revoked.is_announced)


def key_report(key: KeySummary, *, this: UUID | None = None) -> KeyReport:
    """A key as it is told."""
    return KeyReport(
        id=public_id("key", key.id),
        customer=public_id("cus", key.customer_id),
        start=key.start,
        name=key.name,
        is_test=key.is_test,
        per_minute=key.per_minute,
        robots=key.robots,
        models=key.policies,
        allowed_ips=key.allowed_ips,
        data_policy=key.data_policy,
        rotated_from=None if key.rotated_from is None else public_id("key", key.rotated_from),
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        last_used_at=key.last_used_at,
        created_at=key.created_at,
        is_this=UNSET if this is None else key.id == this,
    )


async def _rotate(call: Call, key_id: UUID, body: RotationWish, *, customer_id: UUID | None = None) -> RotatedReport:
    overlap = timedelta(hours=body.overlap_hours)
    rotated = await rotate_key(
        call.stores, key_id, overlap=overlap, expires_in_days=body.expires_in_days, customer_id=customer_id
    )
    return RotatedReport(new=_told(rotated.key, is_announced=rotated.is_announced), old=key_report(rotated.old))


async def own_key(call: Call, by: Principal) -> KeySummary:
    """The key that asks, as it is stored now."""
    keys = await list_keys(call.stores.engine, by.customer_id)
    mine = next((key for key in keys if key.id == by.key_id), None)
    if mine is None:
        raise no_such("key", public_id("key", by.key_id))
    return mine


def _within(mine: KeySummary, new: NewKey) -> NewKey:
    """The wish with the asking key's own bounds. Raises ApiError naming what would go beyond them."""
    per_minute, days, allowed = new.per_minute, new.expires_in_days, new.allowed_ips
    if mine.per_minute is not None:
        per_minute = min(per_minute or mine.per_minute, mine.per_minute)
    if mine.expires_at is not None:
        left_days = (mine.expires_at - datetime.now(UTC)) // timedelta(days=1)
        if left_days < 1:
            raise ApiError("key_restricted", "A key that ends within a day makes no other.")
        days = min(days or left_days, left_days)
    if mine.allowed_ips is not None:
        allowed = mine.allowed_ips if allowed is None else clean_networks(allowed)
        if not all(any(_is_inside(inner, outer) for outer in mine.allowed_ips) for inner in allowed or ()):
            raise ApiError("key_restricted", "The new key's addresses must be within this key's own.", param="allowed_ips")
    return NewKey(
        name=new.name,
        is_test=new.is_test,
        per_minute=per_minute,
        expires_in_days=days,
        robots=new.robots,
        policies=new.policies,
        allowed_ips=allowed,
        data_policy=new.data_policy
        if mine.data_policy is None
        else most_restrictive(DataPolicy(mine.data_policy), new.data_policy),
    )


def _is_inside(inner: str, outer: str) -> bool:
    one, other = ip_network(inner), ip_network(outer)
    return one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]  # the same version, as just asked


def _issued(created: Created) -> IssuedReport:
    return _told(created.key, is_announced=created.is_announced)


def _told(key: IssuedKey, *, is_announced: bool) -> IssuedReport:
    return IssuedReport(
        api_key=key.text,
        id=public_id("key", key.id),
        start=key.start,
        name=key.name,
        is_test=key.is_test,
        expires_at=key.expires_at,
        is_announced=is_announced,
    )


def _endpoint(method: str, path: str, name: str, summary: str, **more: object) -> Endpoint:
    return Endpoint(method=method, path=path, name=name, summary=summary, **more)  # type: ignore[arg-type]  # passed on


_OWN, _ANY = "/v1/keys", "/admin/v1/keys/{key}"
_OF_CUSTOMER = "/admin/v1/customers/{customer}/keys"
_ROTATION = {"overlap_hours": 24}
_ENDED = {"key": KEY, "is_announced": True}

OWN_ENDPOINTS = (
    _endpoint("GET", _OWN, "list_keys", "Your keys; never their text", serve=list_own, answer_example={"keys": [KEY]}),
    _endpoint(
        "POST",
        _OWN,
        "create_key",
        "One more key, never stronger than the one that asks",
        serve=create_own,
        status=201,
        errors=("key_restricted", "invalid_field"),
        body_example=NEW_KEY,
        answer_example=ISSUED,
    ),
    _endpoint(
        "DELETE",
        f"{_OWN}/{{key}}",
        "revoke_key",
        "End a key for good, within a second",
        serve=revoke_own,
        errors=("key_restricted",),
        answer_example=_ENDED,
    ),
    _endpoint(
        "POST",
        f"{_OWN}/{{key}}/rotate",
        "rotate_key",
        "A new key in the old one's place; both work during the overlap",
        serve=rotate_own,
        errors=("key_restricted",),
        body_example=_ROTATION,
        answer_example=ROTATED,
    ),
)
OPERATOR_ENDPOINTS = (
    _endpoint(
        "GET", _OF_CUSTOMER, "list_keys_of_customer", "A customer's keys", serve=list_of_customer, answer_example={"keys": [KEY]}
    ),
    _endpoint(
        "POST",
        _OF_CUSTOMER,
        "create_key_for_customer",
        "One more key for a customer",
        serve=create_for_customer,
        status=201,
        body_example=NEW_KEY,
        answer_example=ISSUED,
    ),
    _endpoint("DELETE", _ANY, "revoke_any_key", "End a key for good", serve=revoke_any, answer_example=_ENDED),
    _endpoint(
        "POST",
        f"{_ANY}/rotate",
        "rotate_any_key",
        "A new key in the old one's place",
        serve=rotate_any,
        body_example=_ROTATION,
        answer_example=ROTATED,
    ),
)
