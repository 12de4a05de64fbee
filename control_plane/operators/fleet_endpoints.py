"""Policies, versions, entitlements, pins and replicas under `/admin/v1`: `vlaapi policies` and `vlaapi replicas` over HTTP.

Words only; what happens is in `policies.verbs`. It stands here, and not in `policies`, because that room knows no operator.
"""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from control_plane.endpoints.endpoint import Call, Endpoint
from control_plane.errors import ApiError
from control_plane.identity.public_id import parse_public_id, public_id
from control_plane.keys.verbs import no_such
from control_plane.operators.roles import Admin, Support, Viewer
from control_plane.policies.commands import policy_rows, replica_rows
from control_plane.policies.roll_call import Report, read_reports
from control_plane.policies.standing import Standing, read_standing
from control_plane.policies.verbs import (
    Moved,
    named,
    pin,
    reload_bundles,
    set_default,
    set_draining,
    set_enabled,
    set_entitled,
    set_restricted,
)
from control_plane.redis import REDIS_AWAY

_CustomerId = Annotated[str, Meta(max_length=100)]


class PolicyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One policy version. `default`: `policy` for requests that name no version, `service` also for those that name nothing."""

    policy: str
    version: int
    enabled: bool
    restricted: bool
    default: str | None
    processes: int
    customers: int | None


class Policies(msgspec.Struct, frozen=True, kw_only=True):
    """What runs or has been decided about."""

    revision: int
    data: tuple[PolicyRow, ...]


class ReplicaRow(msgspec.Struct, frozen=True, kw_only=True):
    """One Triton as the running processes see it."""

    replica: str
    draining: bool
    states: str | None
    in_flight: int
    processes: int


class Replicas(msgspec.Struct, frozen=True, kw_only=True):
    """Every Triton."""

    data: tuple[ReplicaRow, ...]


class PolicyChange(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Exactly one wish. `policy` is a policy or `policy@version`; `restricted` is about the policy as a whole."""

    policy: Annotated[str, Meta(max_length=200)]
    enabled: bool | UnsetType = UNSET
    restricted: bool | UnsetType = UNSET
    default: bool | UnsetType = UNSET


class EntitlementChange(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Exactly one wish for one customer. `pinned` holds them to `policy@version`, or lets them go."""

    policy: Annotated[str, Meta(max_length=200)]
    customer: _CustomerId
    entitled: bool | UnsetType = UNSET
    pinned: bool | UnsetType = UNSET


class ReplicaChange(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Whether a Triton gets nothing new."""

    replica: Annotated[str, Meta(max_length=255)]
    draining: bool


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The change is made. `is_announced` false: Redis is away, and processes find it by themselves within half a second."""

    revision: int
    is_announced: bool


async def list_policies(by: Viewer, call: Call) -> Policies:  # noqa: ARG001 -- the role is what it asks for
    """Every policy version."""
    standing, reports = await _seen(call)
    rows = msgspec.convert(policy_rows(standing, reports), tuple[PolicyRow, ...])
    return Policies(revision=standing.revision, data=rows)


async def list_replicas(by: Viewer, call: Call) -> Replicas:  # noqa: ARG001 -- as above
    """Every Triton."""
    standing, reports = await _seen(call)
    return Replicas(data=msgspec.convert(replica_rows(standing, reports), tuple[ReplicaRow, ...]))


async def change_policy(by: Admin, call: Call, *, body: PolicyChange) -> Done:  # noqa: ARG001 -- as above
    """On or off, restricted or open, or the default."""
    what = named(body.policy)
    _one_of(body, "enabled", "restricted", "default")
    if body.enabled is not UNSET:
        return _done(await set_enabled(call.stores, what, is_enabled=body.enabled))
    if body.restricted is not UNSET:
        return _done(await set_restricted(call.stores, what, is_restricted=body.restricted))
    if body.default is not True:
        raise ApiError("invalid_field", "A default ends when another one is made it.", param="default")
    return _done(await set_default(call.stores, what))


async def change_policy_of_customer(by: Admin, call: Call, *, body: EntitlementChange) -> Done:  # noqa: ARG001 -- as above
    """An entitlement to a restricted policy, or a pin to one version."""
    what, customer_id = named(body.policy), _customer(body.customer)
    _one_of(body, "entitled", "pinned")
    if body.entitled is not UNSET:
        return _done(await set_entitled(call.stores, what, customer_id, is_entitled=body.entitled))
    if body.pinned is True and what.version is None:
        raise ApiError("missing_field", "Say which version: policy@version.", param="policy")
    return _done(await pin(call.stores, what if body.pinned is True else named(what.policy), customer_id))


async def reload_policies(by: Admin, call: Call) -> Done:  # noqa: ARG001 -- as above
    """Every process reads the model repository again, or says in its log and to `vlaapi policies reload` why it refuses."""
    return _done(await reload_bundles(call.stores))


async def change_replica(by: Support, call: Call, *, body: ReplicaChange) -> Done:  # noqa: ARG001 -- as above
    """Take a Triton out, or put it back."""
    return _done(await set_draining(call.stores, body.replica, is_draining=body.draining))


async def _seen(call: Call) -> tuple[Standing, Sequence[Report]]:
    standing = await read_standing(call.stores.engine)
    try:
        return standing, await read_reports(call.stores.redis)
    except REDIS_AWAY:
        return standing, ()


def _done(moved: Moved) -> Done:
    return Done(revision=moved.standing.revision, is_announced=moved.is_announced)


def _one_of(body: msgspec.Struct, *names: str) -> None:
    given = [name for name in names if getattr(body, name) is not UNSET]
    if len(given) != 1:
        raise ApiError("invalid_field", f"Give exactly one of {', '.join(names)}.", param=given[1] if given else names[0])


def _customer(text: str) -> UUID:
    customer_id = parse_public_id("cus", text)
    if customer_id is None:
        raise no_such("customer", repr(text))
    return customer_id


_DONE = {"revision": 12, "is_announced": True}
_CUSTOMER = public_id("cus", UUID("0193a6b2-c4d8-7e1f-a2b3-c4d5e6f70819"))
_ROW = {"policy": "tabletop", "version": 1, "enabled": True, "restricted": False, "default": "service", "processes": 2}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/admin/v1/policies",
        name="list_policies",
        summary="Every policy version, what was decided about it, and where it runs",
        serve=list_policies,
        answer_example={"revision": 12, "data": [{**_ROW, "customers": None}]},
    ),
    Endpoint(
        method="PATCH",
        path="/admin/v1/policies",
        name="change_policy",
        summary="Switch a policy or version on or off, restrict or open it, or make it the default",
        serve=change_policy,
        errors=("invalid_field", "missing_field"),
        body_example={"policy": "tabletop@2", "default": True},
        answer_example=_DONE,
    ),
    Endpoint(
        method="PATCH",
        path="/admin/v1/policies/customers",
        name="change_policy_of_customer",
        summary="Entitle a customer to a restricted policy, or pin them to a version",
        serve=change_policy_of_customer,
        errors=("invalid_field", "missing_field", "not_found"),
        body_example={"policy": "tabletop@1", "customer": _CUSTOMER, "pinned": True},
        answer_example=_DONE,
    ),
    Endpoint(
        method="POST",
        path="/admin/v1/policies/reload",
        name="reload_policies",
        summary="Read the model repository again in every process",
        serve=reload_policies,
        answer_example=_DONE,
    ),
    Endpoint(
        method="GET",
        path="/admin/v1/replicas",
        name="list_replicas",
        summary="Every Triton as the running processes see it",
        serve=list_replicas,
        answer_example={
            "data": [{"replica": "127.0.0.1:18001", "draining": False, "states": "serving", "in_flight": 3, "processes": 2}]
        },
    ),
    Endpoint(
        method="PATCH",
        path="/admin/v1/replicas",
        name="change_replica",
        summary="Drain a Triton, or put it back",
        serve=change_replica,
        errors=("invalid_field", "missing_field"),
        body_example={"replica": "127.0.0.1:18001", "draining": True},
        answer_example=_DONE,
    ),
)
