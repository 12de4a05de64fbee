"""`vlaapi policies …` and `vlaapi replicas …`: words and output only; what happens is in `verbs.py`."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

import typer

from control_plane.errors import ApiError
from control_plane.keys.terminal import AsJson, id_of, on_stores, print_json, print_table
from control_plane.keys.verbs import Stores
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

policies = typer.Typer(help="Which policies and versions are served, and to whom.", no_args_is_help=True)
replicas = typer.Typer(help="The Tritons behind the API: see them, take one out, put it back.", no_args_is_help=True)

PolicyName = Annotated[str, typer.Argument(metavar="POLICY[@VERSION]")]
Customer = Annotated[str, typer.Option("--customer", help="The customer's id, cus_….")]
Address = Annotated[str, typer.Argument(metavar="HOST:PORT", help="As in VLA_TRITON_URL.")]

_FOLLOW_S = 20.0
_POLL_S = 0.2


@policies.command("list")
def list_policies(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Every policy and version that runs or has been decided about."""
    standing, reports = on_stores(ctx, _seen)
    rows = policy_rows(standing, reports)
    if as_json:
        print_json({"policies": rows, "revision": standing.revision})
    else:
        print_table(rows)


@policies.command("enable")
def enable(ctx: typer.Context, policy: PolicyName, as_json: AsJson = False) -> None:
    """Serve it (again). New bundles in the model repository are read."""
    what = named(policy)
    _follow_bundles(ctx, lambda stores: set_enabled(stores, what, is_enabled=True), as_json=as_json)


@policies.command("disable")
def disable(ctx: typer.Context, policy: PolicyName, as_json: AsJson = False) -> None:
    """Serve it to nobody, from the next request on."""
    what = named(policy)
    _do(ctx, lambda stores: set_enabled(stores, what, is_enabled=False), as_json=as_json)


@policies.command("default")
def default(ctx: typer.Context, policy: PolicyName, as_json: AsJson = False) -> None:
    """POLICY for requests that name none; POLICY@VERSION for requests for that policy that name no version."""
    what = named(policy)
    _do(ctx, lambda stores: set_default(stores, what), as_json=as_json)


@policies.command("restrict")
def restrict(ctx: typer.Context, policy: PolicyName, as_json: AsJson = False) -> None:
    """Only for customers who are entitled to it; for all others it does not exist."""
    what = named(policy)
    _do(ctx, lambda stores: set_restricted(stores, what, is_restricted=True), as_json=as_json)


@policies.command("open")
def open_(ctx: typer.Context, policy: PolicyName, as_json: AsJson = False) -> None:
    """For every customer."""
    what = named(policy)
    _do(ctx, lambda stores: set_restricted(stores, what, is_restricted=False), as_json=as_json)


@policies.command("entitle")
def entitle(ctx: typer.Context, policy: PolicyName, customer: Customer, as_json: AsJson = False) -> None:
    """Let a customer use a restricted policy."""
    what, customer_id = named(policy), id_of("customer", "cus", customer)
    _do(ctx, lambda stores: set_entitled(stores, what, customer_id, is_entitled=True), as_json=as_json)


@policies.command("disentitle")
def disentitle(ctx: typer.Context, policy: PolicyName, customer: Customer, as_json: AsJson = False) -> None:
    """No longer let a customer use a restricted policy."""
    what, customer_id = named(policy), id_of("customer", "cus", customer)
    _do(ctx, lambda stores: set_entitled(stores, what, customer_id, is_entitled=False), as_json=as_json)


@policies.command("pin")
def pin_(ctx: typer.Context, policy: PolicyName, customer: Customer, as_json: AsJson = False) -> None:
    """Hold a customer to one version: POLICY@VERSION."""
    what, customer_id = named(policy), id_of("customer", "cus", customer)
    if what.version is None:
        raise ApiError("missing_field", f"say which version: {policy}@1.", param="policy")
    _do(ctx, lambda stores: pin(stores, what, customer_id), as_json=as_json)


@policies.command("unpin")
def unpin(ctx: typer.Context, policy: PolicyName, customer: Customer, as_json: AsJson = False) -> None:
    """Give a customer the default version again."""
    what, customer_id = named(policy.partition("@")[0]), id_of("customer", "cus", customer)
    _do(ctx, lambda stores: pin(stores, what, customer_id), as_json=as_json)


@policies.command("reload")
def reload_(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Read the model repository again in every process: all of it, or nothing changes there."""
    _follow_bundles(ctx, reload_bundles, as_json=as_json)


@replicas.command("list")
def list_replicas(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Each Triton as the running processes see it."""
    standing, reports = on_stores(ctx, _seen)
    rows = replica_rows(standing, reports)
    if as_json:
        print_json({"replicas": rows})
    else:
        print_table(rows)


@replicas.command("drain")
def drain(
    ctx: typer.Context,
    address: Address,
    wait: Annotated[float, typer.Option(help="Seconds to wait until nothing is in flight there; 0 does not wait.")] = 30.0,
) -> None:
    """Send it nothing new, and wait for what it has: then it can be restarted and nobody notices."""
    moved = on_stores(ctx, lambda stores: set_draining(stores, address, is_draining=True))
    if wait > 0:
        left = on_stores(ctx, lambda stores: _drained(stores, moved.standing.revision, address, wait))
        if left:
            raise ApiError("overloaded", f"{address}: {left} in flight after {wait:g} s; it gets nothing new.")
    typer.echo(f"{address} is drained." if wait > 0 else f"{address} gets nothing new.")


@replicas.command("resume")
def resume(ctx: typer.Context, address: Address) -> None:
    """Send it work again."""
    on_stores(ctx, lambda stores: set_draining(stores, address, is_draining=False))
    typer.echo(f"{address} takes work again.")


async def _seen(stores: Stores) -> tuple[Standing, Sequence[Report]]:
    standing = await read_standing(stores.engine)
    try:
        return standing, await read_reports(stores.redis)
    except REDIS_AWAY:
        typer.echo("note: Redis cannot be reached; what runs is not known.", err=True)
        return standing, ()


def policy_rows(standing: Standing, reports: Sequence[Report]) -> list[dict[str, Any]]:
    """A row per policy version. `default`: the policy's, or `service` where it also answers requests that name none."""
    running: dict[tuple[str, int], set[str]] = {}
    for report in reports:
        for one in report.policies:
            running.setdefault((one.policy, one.version), set()).add(one.model)
    decided = {(one.policy, one.default_version) for one in standing.policies.values() if one.default_version is not None}
    rows = []
    for policy, version in sorted({*running, *standing.disabled, *decided}):
        found, models = standing.of(policy), running.get((policy, version), set())
        is_default = version == found.default_version if found.default_version else policy in models
        rows.append(
            {
                "policy": policy,
                "version": version,
                "enabled": found.is_enabled and (policy, version) not in standing.disabled,
                "restricted": found.is_restricted,
                "default": ("service" if found.is_default else "policy") if is_default else None,
                "processes": sum((policy, version) in {(one.policy, one.version) for one in r.policies} for r in reports),
                "customers": sum(name == policy for _, name in standing.entitled) if found.is_restricted else None,
            }
        )
    return rows


def replica_rows(standing: Standing, reports: Sequence[Report]) -> list[dict[str, Any]]:
    """A row per replica, over all processes that report."""
    seen: dict[str, list[tuple[str, int]]] = {address: [] for address in sorted(standing.draining)}
    for report in reports:
        for one in report.replicas:
            seen.setdefault(one.address, []).append((one.state, one.in_flight))
    return [
        {
            "replica": address,
            "draining": address in standing.draining,
            "states": ", ".join(sorted({state for state, _ in states})) or None,
            "in_flight": sum(in_flight for _, in_flight in states),
            "processes": len(states),
        }
        for address, states in sorted(seen.items())
    ]


def _do(ctx: typer.Context, verb: Callable[[Stores], Awaitable[Moved]], *, as_json: bool) -> None:
    moved = on_stores(ctx, verb)
    if as_json:
        print_json({"revision": moved.standing.revision, "is_announced": moved.is_announced})
    else:
        typer.echo("done; every process follows within a second.")
    if not moved.is_announced:
        typer.echo("note: Redis cannot be reached; processes look at PostgreSQL twice a second.", err=True)


def _follow_bundles(ctx: typer.Context, verb: Callable[[Stores], Awaitable[Moved]], *, as_json: bool) -> None:
    """Does it, then waits for what each process says about the bundles."""

    async def work(stores: Stores) -> tuple[Moved, Sequence[Report]]:
        moved = await verb(stores)
        return moved, await _followed(stores, moved.standing)

    moved, reports = on_stores(ctx, work)
    refusals = {report.process: report.refusal for report in reports if report.refusal is not None}
    if as_json:
        print_json({"revision": moved.standing.revision, "is_announced": moved.is_announced, "refusals": refusals})
    if refusals:
        raise ApiError("invalid_field", "; ".join(f"{process}: {reason}" for process, reason in refusals.items()))
    if not as_json:
        typer.echo(f"done in {len(reports)} processes.")


async def _followed(stores: Stores, standing: Standing) -> Sequence[Report]:
    """The reports, once all have come to this revision or the patience is over."""
    ends_s = time.monotonic() + _FOLLOW_S
    while True:
        try:
            reports = await read_reports(stores.redis)
        except REDIS_AWAY:
            return ()
        if all(report.revision >= standing.revision for report in reports) or time.monotonic() > ends_s:
            return reports
        await asyncio.sleep(_POLL_S)


async def _drained(stores: Stores, revision: int, address: str, wait_s: float) -> int:
    """How much is still in flight there when all processes know of the drain and nothing is, or the patience is over."""
    ends_s = time.monotonic() + wait_s
    while True:
        reports = await read_reports(stores.redis)
        left = sum(one.in_flight for report in reports for one in report.replicas if one.address == address)
        knows = all(report.revision >= revision for report in reports)
        if (knows and not left) or time.monotonic() > ends_s:
            return left if knows else max(left, 1)
        await asyncio.sleep(_POLL_S)
