"""`vlaapi data …` and `vlaapi storage …`: delete, export and build from what is held, look at the store. For operators."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from control_plane.capture.asked import Wanted
from control_plane.capture.deletion import Proof, customer_of, delete
from control_plane.capture.export import export
from control_plane.capture.forget import Told
from control_plane.capture.look_again import Places
from control_plane.capture.storage import StorageError, check, set_up
from control_plane.errors import ApiError
from control_plane.identity.public_id import public_id
from control_plane.keys.terminal import AsJson, id_of, on_stores, print_json, print_lines
from control_plane.keys.verbs import Stores
from control_plane.objects import ObjectStore, ObjectStoreAwayError, create_objects
from control_plane.usage.request_id import RequestIdError, parse

_T = TypeVar("_T")
ObjectsUrl = Callable[[], str | None]
Customer = Annotated[str | None, typer.Option("--customer", help="The customer, cus_….")]


def create_data_commands(objects_url: ObjectsUrl) -> typer.Typer:
    """The sub-commands of `data`; `objects_url` is asked for only when one of them runs."""
    commands = typer.Typer(no_args_is_help=True, help="Delete, export and build from what customers let us keep.")

    @commands.command("delete")
    def delete_(
        ctx: typer.Context,
        customer: Customer = None,
        session: Annotated[str | None, typer.Option(help="Only this session of theirs.")] = None,
        request: Annotated[str | None, typer.Option(help="Only this request, inf_….")] = None,
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """Removes pictures, words and motions, looks again, and says what is left. Ends with 1 if anything is."""
        if customer is None and request is None:
            raise ApiError("missing_field", "say whose: --customer cus_…", param="customer")
        told = request or (f"everything of {customer}" if session is None else f"session {session} of {customer}")
        if not yes:
            typer.confirm(f"Delete {told}? This cannot be undone.", abort=True, err=True)
        wanted = (customer, session, request)
        with _progress() as tell:
            proof = on_stores(ctx, lambda stores: with_objects(objects_url, lambda there: _delete(stores, there, wanted, tell)))
        _print_proof(proof, as_json=as_json)
        if proof.left:
            raise typer.Exit(1)

    @commands.command("export")
    def export_(
        ctx: typer.Context,
        customer: Annotated[str, typer.Option("--customer", help="The customer, cus_….")],
        out: Annotated[Path, typer.Option(help="A new folder.")],
        as_json: AsJson = False,
    ) -> None:
        """Everything we hold about a customer, as files."""
        customer_id = id_of("customer", "cus", customer)
        done = on_stores(
            ctx, lambda stores: with_objects(objects_url, lambda there: export(stores.engine, there, customer_id, out))
        )
        told = {"out": str(out), "rows": sum(done.rows.values()), "tables": len(done.rows)}
        told |= {"objects": done.objects, "object bytes": done.size_bytes}
        print_json(told) if as_json else print_lines(told)

    return commands


def create_storage_commands(objects_url: ObjectsUrl) -> typer.Typer:
    """The sub-commands of `storage`."""
    commands = typer.Typer(no_args_is_help=True, help="The object store.")

    @commands.command("set-up")
    def set_up_() -> None:
        """Makes the bucket and gives it encryption and lifecycle rules. What it has already stays; again changes nothing."""
        try:
            set_up(_required(objects_url))
        except StorageError as error:
            typer.echo(f"vlaapi: the object store is away or refuses ({error})", err=True)
            raise typer.Exit(1) from None
        typer.echo("The bucket is there, encrypted, with lifecycle rules.")

    @commands.command("check")
    def check_(as_json: AsJson = False) -> None:
        """Everything that must be so of the object store, line by line. Ends with 1 if anything is not."""
        findings = list(check(_required(objects_url)))
        if as_json:
            print_json({"findings": [{"what": one.what, "is_good": one.is_good, "detail": one.detail} for one in findings]})
        else:
            for one in findings:
                typer.echo(f"{'ok  ' if one.is_good else 'FAIL'}  {one.what}: {one.detail}")
        if not all(one.is_good for one in findings):
            raise typer.Exit(1)

    return commands


@contextmanager
def _progress() -> Iterator[Told]:
    """On a terminal only, and on stderr: stdout is for the result."""
    with Console(stderr=True).status("looking") as shown:
        yield lambda what, count: shown.update(f"{count:,} {what}")


async def _delete(
    stores: Stores, objects: ObjectStore | None, wanted: tuple[str | None, str | None, str | None], told: Told
) -> Proof:
    customer, session, request = wanted
    places = Places(engine=stores.engine, redis=stores.redis, objects=objects, by=stores.by)
    if request is not None:
        if session is not None:
            raise ApiError("invalid_field", "give a session or a request, not both.", param="request")
        try:
            request_id = parse(request)
        except RequestIdError:
            raise ApiError("invalid_field", "request must be an id such as inf_….", param="request") from None
        owner = await customer_of(stores.engine, request_id)
        if customer is not None and owner != id_of("customer", "cus", customer):
            raise ApiError("not_found", f"{customer} has no request {request}.", param="request")
        return await delete(places, Wanted(customer_id=owner, request_id=request_id), told=told)
    customer_id = id_of("customer", "cus", str(customer))
    return await delete(places, Wanted(customer_id=customer_id, session_id=session), told=told)


async def with_objects(objects_url: ObjectsUrl, work: Callable[[ObjectStore | None], Awaitable[_T]]) -> _T:
    """Works with the store, or with None where this service has none; closes it."""
    url = objects_url()
    if url is None:
        return await work(None)
    objects = create_objects(url)
    try:
        return await work(objects)
    except ObjectStoreAwayError as error:
        raise ApiError("store_unavailable", f"the object store is away or refuses ({error}); run this again.") from None
    finally:
        await objects.aclose()


def _required(objects_url: ObjectsUrl) -> str:
    url = objects_url()
    if url is None:
        raise ApiError("missing_field", "there is no object store: set VLA_OBJECT_STORE_URL.", param="object_store_url")
    return url


def _print_proof(proof: Proof, *, as_json: bool) -> None:
    told = {"deletion": public_id("del", proof.deletion)} | proof.as_told()
    if as_json:
        print_json(told)
        return
    print_lines(told | {"left": "; ".join(proof.left) or "nothing: looked again", "remarks": "; ".join(proof.remarks) or "none"})
