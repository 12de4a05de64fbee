"""`vlaapi invoices …`: close a month, look at invoices, get paid, correct. Words and output only; the rest is in the verbs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from msgspec import to_builtins
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress import TaskID as Task

from billing.life_cycle import State
from billing.money import CURRENCIES, as_text
from billing.statement import Statement
from control_plane.db import database_errors
from control_plane.errors import ApiError
from control_plane.identity.public_id import parse_public_id, public_id
from control_plane.invoices import close as closing
from control_plane.invoices.credit_notes import CreditNote, credit, credit_note_pdf, credit_notes
from control_plane.invoices.documents import document
from control_plane.invoices.exports import invoice_csv, invoice_of, report_of
from control_plane.invoices.payments import BankTransfer
from control_plane.invoices.reading import Summary, Wanted, read_statement
from control_plane.invoices.seller import STAND_IN, Seller
from control_plane.invoices.send import send
from control_plane.invoices.verbs import Paid, find_invoice, give_up, list_invoices, pay, pay_from_credit, read_one, void
from control_plane.keys.fields import clean_month
from control_plane.keys.terminal import AsJson, id_of, on_stores, print_json, print_lines, print_table
from control_plane.keys.verbs import Stores

Month = Annotated[str, typer.Option("--month", help="UTC month as YYYY-MM.")]
Invoice = Annotated[str, typer.Argument(metavar="INVOICE", help="Its number, or its id inv_….")]
Reason = Annotated[str, typer.Option(help="Why; kept with the invoice.")]
Out = Annotated[Path | None, typer.Option("--out", help="Where to write it; else into this folder under its number.")]
Amount = Annotated[str | None, typer.Option(help="In the invoice's currency, as 123.45; else all that is open.")]


def create_commands(seller: Callable[[], Seller]) -> typer.Typer:
    """The sub-commands; the seller is read only by those that write documents."""
    commands = typer.Typer(help="Close months, look at invoices, get paid, correct.", no_args_is_help=True)
    _add_closing(commands, seller)
    _add_looking(commands)
    _add_writing(commands, seller)
    _add_moving(commands)
    _add_correcting(commands, seller)
    return commands


def _add_closing(commands: typer.Typer, seller: Callable[[], Seller]) -> None:
    @commands.command("close")
    def close(
        ctx: typer.Context,
        month: Month,
        is_draft: Annotated[bool, typer.Option("--draft", help="Only make drafts to look at; usage may still come.")] = False,
        is_sent: Annotated[bool, typer.Option("--send", help="E-mail every invoice when the month is closed.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """Make the month's invoices final. Run it again after any interruption: it goes on where it was."""
        chosen, by_whom = clean_month(month), seller()
        if by_whom == STAND_IN:
            typer.echo("note: no seller is set (VLA_SELLER_FILE); the invoices say so.", err=True)
        with _progress(is_quiet=as_json) as progress:
            if is_draft:
                count = on_stores(ctx, lambda s: closing.draft_month(s.engine, chosen, by_whom, progress=progress))
                typer.echo(f"{chosen:%Y-%m}: {count} drafts")
                return
            done = on_stores(ctx, lambda s: closing.close_month(s.engine, chosen, by_whom, s.by, progress=progress))
        sent = _send_month(ctx, chosen, by_whom) if is_sent else 0
        told = {"month": month, "was_closed": done.was_closed, "finalized": done.finalized, "documents": done.documents}
        if as_json:
            print_json({**told, "sent": sent, "totals": done.totals})
        else:
            print_lines({**told, "sent": sent, "invoices": "; ".join(done.totals) or "none"})

    @commands.command("send")
    def send_(
        ctx: typer.Context,
        invoice: Annotated[str | None, typer.Argument(metavar="[INVOICE]", help="Number or id; or give --month.")] = None,
        month: Annotated[str | None, typer.Option(help="All of that month that were not sent yet.")] = None,
        to: Annotated[str | None, typer.Option(help="Another address.")] = None,
        is_again: Annotated[bool, typer.Option("--again", help="Even if it was sent before.")] = False,
    ) -> None:
        """E-mail invoices with their PDF."""
        if invoice is None:
            if month is None:
                raise ApiError("missing_field", "say which: an invoice, or --month.", param="invoice")
            typer.echo(f"{_send_month(ctx, clean_month(month), seller())} invoices put into the outbox")
            return
        is_sent = on_stores(ctx, lambda s: _sent(s, invoice, seller(), to=to, is_again=is_again))
        typer.echo("put into the outbox" if is_sent else "was sent before; --again sends it once more")


def _add_looking(commands: typer.Typer) -> None:
    @commands.command("list")
    def list_(
        ctx: typer.Context,
        month: Annotated[str | None, typer.Option(help="Only this month's.")] = None,
        customer: Annotated[str | None, typer.Option(help="Only this customer's, cus_….")] = None,
        state: Annotated[State | None, typer.Option(help="Only in this state.")] = None,
        limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, newest first.")] = 50,
        as_json: AsJson = False,
    ) -> None:
        """Invoices, newest first."""
        wanted = Wanted(
            customer_id=None if customer is None else id_of("customer", "cus", customer),
            month=None if month is None else clean_month(month),
            state=state,
        )
        found = on_stores(ctx, lambda s: list_invoices(s.engine, wanted, limit=limit))
        if as_json:
            print_json({"invoices": [to_builtins(invoice_of(one)) for one in found]})
        else:
            print_table([_as_row(one) for one in found])

    @commands.command("show")
    def show(
        ctx: typer.Context,
        invoice: Invoice,
        is_csv: Annotated[bool, typer.Option("--csv", help="The lines as CSV.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """One invoice with its lines."""
        statement, summary, notes = on_stores(ctx, lambda s: _whole(s, invoice))
        if is_csv:
            typer.echo(invoice_csv(statement), nl=False)
            return
        if as_json:
            print_json(to_builtins(report_of(statement, summary)))
            return
        print_lines(_as_row(summary))
        lines = [(line.description, line.quantity, as_text(line.amount_cents, line.currency)) for line in statement.lines]
        print_table([dict(zip(("line", "requests", "amount"), line, strict=True)) for line in lines])
        print_table([{"credit note": n.number, "amount": as_text(n.amount_cents, n.currency), "reason": n.reason} for n in notes])


def _add_writing(commands: typer.Typer, seller: Callable[[], Seller]) -> None:
    @commands.command("pdf")
    def pdf(ctx: typer.Context, invoice: Invoice, out: Out = None) -> None:
        """Write the PDF."""
        number, content = on_stores(ctx, lambda s: _pdf(s, invoice, seller()))
        _write(out or Path(f"{number}.pdf"), content)


def _add_moving(commands: typer.Typer) -> None:
    @commands.command("pay")
    def pay_(
        ctx: typer.Context,
        invoice: Invoice,
        amount: Amount = None,
        reference: Annotated[str | None, typer.Option(help="The bank's reference; the same twice is one payment.")] = None,
        received: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day it came; else now.")] = None,
        is_from_credit: Annotated[bool, typer.Option("--from-credit", help="Use the customer's credit.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """Book a bank transfer, or the customer's credit. Paid in full, the invoice is paid."""

        async def work(stores: Stores) -> Paid:
            invoice_id = await _id(stores, invoice)
            if is_from_credit:
                return await pay_from_credit(stores, invoice_id)
            cents = cents_of(amount, (await read_one(stores.engine, invoice_id)).currency)
            at = None if received is None else received.replace(tzinfo=UTC)
            return await pay(stores, invoice_id, BankTransfer(reference=reference, amount_cents=cents, received_at=at))

        paid = on_stores(ctx, work)
        if not paid.is_new:
            typer.echo("note: this payment was booked before; nothing was changed.", err=True)
        _show(paid.invoice, as_json=as_json)

    @commands.command("void")
    def void_(ctx: typer.Context, invoice: Invoice, reason: Reason, as_json: AsJson = False) -> None:
        """As if it had never been sent. Its usage stays settled: it is not billed again."""

        async def work(stores: Stores) -> Summary:
            return await void(stores, await _id(stores, invoice), reason)

        _show(on_stores(ctx, work), as_json=as_json)

    @commands.command("uncollectible")
    def uncollectible(ctx: typer.Context, invoice: Invoice, reason: Reason, as_json: AsJson = False) -> None:
        """Give up what is open. It may still be paid later."""

        async def work(stores: Stores) -> Summary:
            return await give_up(stores, await _id(stores, invoice), reason)

        _show(on_stores(ctx, work), as_json=as_json)


def _add_correcting(commands: typer.Typer, seller: Callable[[], Seller]) -> None:
    @commands.command("credit")
    def credit_(ctx: typer.Context, invoice: Invoice, reason: Reason, amount: Amount = None, out: Out = None) -> None:
        """Take back some or all of a final invoice by a credit note, and write its PDF."""

        async def work(stores: Stores) -> tuple[str, bytes]:
            invoice_id, by_whom = await _id(stores, invoice), seller()
            cents = cents_of(amount, (await read_one(stores.engine, invoice_id)).currency)
            note = await credit(stores, invoice_id, cents, reason, by_whom)
            async with stores.engine.connect() as connection:
                return note.number, await credit_note_pdf(connection, note, by_whom)

        number, content = on_stores(ctx, work)
        _write(out or Path(f"{number}.pdf"), content)


def cents_of(text: str | None, currency: str) -> int | None:
    """Minor units of an amount as people write it. Raises ApiError naming amount."""
    if text is None:
        return None
    try:
        cents = Decimal(text).scaleb(CURRENCIES[currency])
    except InvalidOperation:
        cents = Decimal("NaN")
    if not cents.is_finite() or cents != cents.to_integral_value() or not 0 < cents < 10**15:
        raise ApiError("invalid_field", f"amount must be a positive amount of {currency} such as 12.50.", param="amount")
    return int(cents)


@contextmanager
def _progress(*, is_quiet: bool) -> Iterator[closing.Progress]:
    """A bar on stderr for a person; nothing in a pipe."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=is_quiet or not console.is_terminal) as bars:
        tasks: dict[str, Task] = {}

        def show(step: str, done: int, of: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=of)
            bars.update(tasks[step], completed=done)

        yield show


def _send_month(ctx: typer.Context, month: date, seller: Seller) -> int:
    async def work(stores: Stores) -> int:
        found = await list_invoices(stores.engine, Wanted(month=month, with_drafts=False), limit=1_000_000)
        due = [one for one in found if one.state is not State.VOID]
        return sum([await send(stores, one.id, seller) for one in due])

    return on_stores(ctx, work)


async def _sent(stores: Stores, invoice: str, seller: Seller, *, to: str | None, is_again: bool) -> bool:
    return await send(stores, await _id(stores, invoice), seller, to=to, is_again=is_again)


async def _id(stores: Stores, name: str) -> UUID:
    return parse_public_id("inv", name) or await find_invoice(stores.engine, name)


async def _whole(stores: Stores, name: str) -> tuple[Statement, Summary, list[CreditNote]]:
    summary = await read_one(stores.engine, await _id(stores, name))
    with database_errors():
        async with stores.engine.connect() as connection:
            return await read_statement(connection, summary.id), summary, await credit_notes(connection, summary.id)


async def _pdf(stores: Stores, name: str, seller: Seller) -> tuple[str, bytes]:
    summary = await read_one(stores.engine, await _id(stores, name))
    with database_errors():
        async with stores.engine.begin() as connection:
            return summary.number or "draft", await document(connection, summary.id, seller)


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ApiError("invalid_field", f"out: {path}: {error.strerror}", param="out") from None
    typer.echo(str(path))


def _show(invoice: Summary, *, as_json: bool) -> None:
    if as_json:
        print_json({"invoice": to_builtins(invoice_of(invoice))})
    else:
        print_lines(_as_row(invoice))


def _as_row(invoice: Summary) -> dict[str, object]:
    return {
        "invoice": invoice.number or "draft",
        "id": public_id("inv", invoice.id),
        "customer": invoice.company_name,
        "month": f"{invoice.month:%Y-%m}",
        "state": invoice.state.value,
        "total": as_text(invoice.total_cents, invoice.currency),
        "open": as_text(invoice.open_cents, invoice.currency),
        "due": invoice.due_on,
    }
