"""E-mails a final invoice with its PDF, through the outbox: once, unless somebody asks for it again. Knows no SMTP."""

from uuid import UUID

from billing.life_cycle import State
from billing.money import as_text
from control_plane.errors import ApiError
from control_plane.identity.public_id import new_id, public_id
from control_plane.invoices.documents import PDF, document
from control_plane.invoices.reading import read_statement
from control_plane.invoices.seller import Seller
from control_plane.invoices.verbs import locked, log, refused
from control_plane.keys.fields import clean_email
from control_plane.keys.verbs import Stores
from control_plane.mail.outbox import Attachment, Mail, enqueue


async def send(stores: Stores, invoice_id: UUID, seller: Seller, *, to: str | None = None, is_again: bool = False) -> bool:
    """False when it has been sent before. It goes to the buyer's address on the invoice, or to `to`."""
    async with locked(stores.engine, invoice_id) as (connection, invoice):
        if invoice.state in {State.DRAFT, State.VOID}:
            raise refused(invoice)
        statement = await read_statement(connection, invoice_id)
        number, due = statement.number, statement.due_on
        if number is None or due is None:
            raise ApiError("internal_error")
        amount = as_text(statement.total_cents, statement.currency)
        address = clean_email(to or statement.buyer["email"])
        mail = Mail(
            to=address,
            subject=f"Invoice {number} for {statement.month:%B %Y}: {amount}",
            text=_text(statement.seller["name"], number, f"{amount}, due {due:%-d %B %Y}", f"{statement.month:%B %Y}"),
            dedupe_key=f"invoice-sent {public_id('inv', invoice_id)} {address}{f' {new_id().hex}' if is_again else ''}",
            attachments=(
                Attachment(filename=f"{number}.pdf", media_type=PDF, content=await document(connection, invoice_id, seller)),
            ),
        )
        if await enqueue(connection, mail) is None:
            return False
        await log(connection, stores, invoice, "send", {"to": address})
        return True


def _text(seller: str, number: str, amount: str, month: str) -> str:
    return (
        f"Hello,\n\nattached is invoice {number} for {month}: {amount}.\n"
        f"Please name {number} when you pay. All your invoices: GET /v1/billing/invoices with your API key.\n\n{seller}\n"
    )
