"""What an operator can do with policies, versions, entitlements, pins and replicas. One verb is one transaction.

It raises the revision first, so that changes come one after another, writes its line of the audit log, and then tells every
process. What was committed stays so when Redis is away; processes notice within half a second all the same. What nobody serves is
refused where a typing mistake would otherwise go unnoticed; taking something away is never refused for that.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import delete, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.audit.record import Change, record
from control_plane.db import database_errors
from control_plane.errors import ApiError
from control_plane.identity.public_id import public_id
from control_plane.keys.verbs import Stores, no_such
from control_plane.policies.announce import announce
from control_plane.policies.roll_call import Report, read_reports
from control_plane.policies.standing import PolicyStanding, Standing, standing_in
from control_plane.policies.tables import (
    disabled_policy_versions,
    draining_replicas,
    fleet_revision,
    policy_entitlements,
    policy_pins,
    policy_states,
)
from control_plane.redis import REDIS_AWAY

_CUSTOMER = text("SELECT 1 FROM customer_accounts WHERE id = :id FOR KEY SHARE")

Work = Callable[[AsyncConnection], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A policy, or one version of it."""

    policy: str
    version: int | None = None

    def __str__(self) -> str:
        return self.policy if self.version is None else f"{self.policy}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What holds after a change, and whether running processes were told."""

    standing: Standing
    is_announced: bool


def named(words: str) -> Named:
    """`policy` or `policy@version`. Raises ApiError naming policy."""
    policy, mark, version = words.partition("@")
    is_right = 0 < len(policy) <= 128 and policy.isprintable() and (not mark or (version.isascii() and version.isdigit()))
    if not is_right or (mark and not 0 < int(version) < 10**9):
        raise ApiError("invalid_field", f"{words!r} is neither a policy nor policy@version.", param="policy")
    return Named(policy=policy, version=int(version) if mark else None)


async def set_enabled(stores: Stores, what: Named, *, is_enabled: bool) -> Moved:
    """On or off, for everybody: the whole policy, or one version. On also means that the bundles are read again."""
    if is_enabled:
        await _refuse_unserved(stores, what, may_be_new=True)

    async def work(connection: AsyncConnection) -> None:
        if what.version is None:
            await _set_policy(connection, what.policy, {"is_enabled": is_enabled})
        elif is_enabled:
            await connection.execute(_of_version(what))
        else:
            row = {"policy": what.policy, "version": what.version}
            await connection.execute(insert(disabled_policy_versions).values(row).on_conflict_do_nothing())
        if is_enabled:
            await _ask_for_bundles(connection)

    return await _change(stores, Change(action="policy.enable" if is_enabled else "policy.disable", target=str(what)), work)


async def set_default(stores: Stores, what: Named) -> Moved:
    """The policy of requests that name none and, with a version, the version of requests for that policy that name none."""
    await _refuse_unserved(stores, what)

    async def work(connection: AsyncConnection) -> None:
        if what.version is None:
            await connection.execute(update(policy_states).where(policy_states.c.is_default).values(is_default=False))
            await _set_policy(connection, what.policy, {"is_default": True})
        else:
            await _set_policy(connection, what.policy, {"default_version": what.version})

    return await _change(stores, Change(action="policy.default", target=str(what)), work)


async def set_restricted(stores: Stores, what: Named, *, is_restricted: bool) -> Moved:
    """Only for customers who are entitled, or for everybody."""
    if not is_restricted:
        await _refuse_unserved(stores, what)

    async def work(connection: AsyncConnection) -> None:
        await _set_policy(connection, what.policy, {"is_restricted": is_restricted})

    return await _change(stores, Change(action="policy.restrict" if is_restricted else "policy.open", target=what.policy), work)


async def set_entitled(stores: Stores, what: Named, customer_id: UUID, *, is_entitled: bool) -> Moved:
    """Whether a customer may use a restricted policy."""
    if is_entitled:
        await _refuse_unserved(stores, what)
    row = {"customer_id": customer_id, "policy": what.policy}

    async def work(connection: AsyncConnection) -> None:
        await _refuse_stranger(connection, customer_id)
        if is_entitled:
            await connection.execute(insert(policy_entitlements).values(row).on_conflict_do_nothing())
        else:
            table = policy_entitlements.c
            mine = (table.customer_id == customer_id, table.policy == what.policy)
            await connection.execute(delete(policy_entitlements).where(*mine))

    action = "policy.entitle" if is_entitled else "policy.disentitle"
    return await _change(stores, Change(action=action, target=what.policy, customer_id=customer_id), work)


async def pin(stores: Stores, what: Named, customer_id: UUID) -> Moved:
    """Holds a customer to one version of a policy, whatever the default becomes. Without a version: no longer."""
    if what.version is not None:
        await _refuse_unserved(stores, what)

    async def work(connection: AsyncConnection) -> None:
        await _refuse_stranger(connection, customer_id)
        if what.version is None:
            table = policy_pins.c
            mine = (table.customer_id == customer_id, table.policy == what.policy)
            await connection.execute(delete(policy_pins).where(*mine))
            return
        row = {"customer_id": customer_id, "policy": what.policy, "version": what.version}
        statement = insert(policy_pins).values(row)
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["customer_id", "policy"], set_={"version": what.version})
        )

    action = "policy.unpin" if what.version is None else "policy.pin"
    return await _change(stores, Change(action=action, target=str(what), customer_id=customer_id), work)


async def reload_bundles(stores: Stores) -> Moved:
    """Every process reads the model repository again."""
    return await _change(stores, Change(action="policy.reload", target="policies"), _ask_for_bundles)


async def set_draining(stores: Stores, address: str, *, is_draining: bool) -> Moved:
    """Whether a Triton replica gets nothing new. What is in flight there goes on."""
    if is_draining:
        _refuse_unknown_replica(await _reports(stores), address)

    async def work(connection: AsyncConnection) -> None:
        if is_draining:
            await connection.execute(insert(draining_replicas).values(address=address).on_conflict_do_nothing())
        else:
            await connection.execute(delete(draining_replicas).where(draining_replicas.c.address == address))

    return await _change(stores, Change(action="replica.drain" if is_draining else "replica.resume", target=address), work)


async def _change(stores: Stores, change: Change, work: Work) -> Moved:
    with database_errors():
        async with stores.engine.begin() as connection:
            await connection.execute(update(fleet_revision).values(revision=fleet_revision.c.revision + 1))
            before = await standing_in(connection)
            await work(connection)
            after = await standing_in(connection)
            told = Change(
                action=change.action,
                target=change.target,
                customer_id=change.customer_id,
                before=_told(before, change),
                after=_told(after, change),
            )
            await record(connection, stores.by, told)
    return Moved(standing=after, is_announced=await announce(stores.redis, after))


def _told(standing: Standing, change: Change) -> Mapping[str, Any]:
    """What of the standing the change was about."""
    policy = change.target.partition("@")[0]
    match change.action.partition(".")[0], change.customer_id:
        case "replica", _:
            return {"is_draining": change.target in standing.draining}
        case _, None:
            found: PolicyStanding = standing.of(policy)
            state = {name: getattr(found, name) for name in ("is_enabled", "is_restricted", "is_default", "default_version")}
            return {**state, "disabled_versions": sorted(number for name, number in standing.disabled if name == policy)}
        case _, customer_id:
            return {"is_entitled": (customer_id, policy) in standing.entitled, "version": standing.pin(customer_id, policy)}


async def _set_policy(connection: AsyncConnection, policy: str, values: Mapping[str, object]) -> None:
    statement = insert(policy_states).values(policy=policy, **values)
    await connection.execute(statement.on_conflict_do_update(index_elements=["policy"], set_=dict(values)))


async def _ask_for_bundles(connection: AsyncConnection) -> None:
    await connection.execute(update(fleet_revision).values(bundles=fleet_revision.c.bundles + 1))


def _of_version(what: Named) -> Any:
    table = disabled_policy_versions.c
    return delete(disabled_policy_versions).where(table.policy == what.policy, table.version == what.version)


async def _refuse_stranger(connection: AsyncConnection, customer_id: UUID) -> None:
    if await connection.scalar(_CUSTOMER, {"id": customer_id}) is None:
        raise no_such("customer", public_id("cus", customer_id))


async def _refuse_unserved(stores: Stores, what: Named, *, may_be_new: bool = False) -> None:
    """Raises ApiError when running processes say what they serve, and this is not among it."""
    reports = await _reports(stores)
    served = {Named(policy=one.policy, version=one.version) for report in reports for one in report.policies}
    is_served = what in served if what.version is not None else what.policy in {one.policy for one in served}
    if not reports or is_served or may_be_new:
        return
    known = ", ".join(sorted(map(str, served)))
    raise ApiError("invalid_field", f"no running process serves {what}; they serve {known}.", param="policy")


def _refuse_unknown_replica(reports: Collection[Report], address: str) -> None:
    known = {one.address for report in reports for one in report.replicas}
    if not 0 < len(address) <= 255 or (known and address not in known):
        message = f"there is no replica {address!r}; there is {', '.join(sorted(known)) or 'none that runs'}."
        raise ApiError("invalid_field", message, param="address")


async def _reports(stores: Stores) -> Collection[Report]:
    try:
        return await read_reports(stores.redis)
    except REDIS_AWAY:
        return ()
