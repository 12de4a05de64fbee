"""`vlaapi operators …` and `vlaapi audit …`: who may operate over HTTP, and what was done. Words and output only."""

from typing import Annotated, Any

import typer

from control_plane.audit.reading import Filter, Line, read_lines
from control_plane.identity.public_id import public_id
from control_plane.keys.terminal import AsJson, id_of, on_stores, print_json, print_lines, print_table
from control_plane.operators.roles import Role
from control_plane.operators.verbs import OperatorSummary, create_operator, list_operators, revoke_operator

commands = typer.Typer(help="Create, list and revoke keys of the operators' API.", no_args_is_help=True)
audit_commands = typer.Typer(help="Who changed what.", no_args_is_help=True)


@commands.command("create")
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Option(help="Whose key it is: a person or a program.")],
    role: Annotated[Role, typer.Option(help="viewer sees, support helps customers, admin does everything.")] = Role.VIEWER,
    expires_in_days: Annotated[int | None, typer.Option(help="After this many days it is refused.")] = None,
    as_json: AsJson = False,
) -> None:
    """A key for /admin/v1. It is shown now and never again."""
    created = on_stores(ctx, lambda stores: create_operator(stores, name=name, role=role, expires_in_days=expires_in_days))
    told = operator_as_json(created.operator)
    if as_json:
        print_json({"operator_key": created.text, "operator": told})
    else:
        print_lines({"operator key": created.text, **told})
        typer.echo("Store the key now: it is not kept and cannot be shown again.", err=True)


@commands.command("list")
def list_(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Every operator's key with its readable start; never the key."""
    operators = [operator_as_json(operator) for operator in on_stores(ctx, lambda stores: list_operators(stores.engine))]
    if as_json:
        print_json({"operators": operators})
    else:
        print_table(operators)


@commands.command("revoke")
def revoke(
    ctx: typer.Context,
    operator: Annotated[str, typer.Argument(metavar="OPERATOR", help="The operator's id, opr_….")],
    as_json: AsJson = False,
) -> None:
    """Ends an operator's key for good, from the next call on."""
    operator_id = id_of("operator", "opr", operator)
    revoked = operator_as_json(on_stores(ctx, lambda stores: revoke_operator(stores, operator_id)))
    if as_json:
        print_json({"operator": revoked})
    else:
        print_lines(revoked)


@audit_commands.command("list")
def audit(
    ctx: typer.Context,
    customer: Annotated[str | None, typer.Option("--customer", help="Only this customer's affairs, cus_….")] = None,
    target: Annotated[str | None, typer.Option(help="Only what was done to this id.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, such as key.revoke.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """The newest lines of the audit log."""
    customer_id = None if customer is None else id_of("customer", "cus", customer)
    wanted = Filter(customer_id=customer_id, target=target, action=action)
    lines = [line_as_json(line) for line in on_stores(ctx, lambda stores: read_lines(stores.engine, wanted, limit=limit))]
    if as_json:
        print_json({"lines": lines})
    else:
        print_table([{name: line[name] for name in ("at", "actor", "action", "target", "before", "after")} for line in lines])


def operator_as_json(operator: OperatorSummary) -> dict[str, Any]:
    """An operator's key as lists show it."""
    return {
        "id": public_id("opr", operator.id),
        "name": operator.name,
        "role": operator.role.value,
        "start": operator.start,
        "expires_at": operator.expires_at,
        "revoked_at": operator.revoked_at,
        "last_used_at": operator.last_used_at,
        "created_at": operator.created_at,
    }


def line_as_json(line: Line) -> dict[str, Any]:
    """A line of the audit log."""
    return {
        "id": public_id("aud", line.id),
        "at": line.at,
        "actor": line.actor,
        "action": line.action,
        "target": line.target,
        "customer": None if line.customer_id is None else public_id("cus", line.customer_id),
        "before": line.before,
        "after": line.after,
        "request_id": line.request_id,
    }
