"""`/admin/v1/invoices…` and a customer's plan: everything that the commands do, for operators' programs."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta

from billing.life_cycle import State
from billing.terms import OwnPrices
from billing.tiers import Tier
from control_plane.db import database_errors
from control_plane.endpoints.endpoint import Call, Document, Endpoint
from control_plane.endpoints.pages import Page, PageQuery, before_of, page_of
from control_plane.errors import ApiError
from control_plane.identity.public_id import parse_public_id, public_id
from control_plane.invoices.adjust import adjust_usage
from control_plane.invoices.credit_notes import credit
from control_plane.invoices.documents import PDF, document
from control_plane.invoices.examples import CREDIT_EXAMPLE, INVOICE_EXAMPLE, PLAN_EXAMPLE, REPORT_EXAMPLE
from control_plane.invoices.exports import Invoice, InvoiceLine, InvoiceReport, invoice_of, line_of, report_of
from control_plane.invoices.payments import BankTransfer
from control_plane.invoices.plans import Plan, Preview, change_plan, preview_plan
from control_plane.invoices.reading import Wanted, read_statement
from control_plane.invoices.seller import Seller
from control_plane.invoices.send import send
from control_plane.invoices.verbs import give_up, list_invoices, pay, pay_from_credit, read_one, void
from control_plane.keys.fields import clean_month
from control_plane.operators.roles import Admin, Support, Viewer

_Cents = Annotated[int, Meta(ge=1, le=10**15)]
_Text = Annotated[str, Meta(min_length=1, max_length=500)]
_INVOICES = "/admin/v1/invoices"


class InvoiceQuery(PageQuery, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Which invoices."""

    customer: Annotated[str, Meta(max_length=100)] | None = None
    month: Annotated[str, Meta(pattern=r"^[12]\d{3}-(0[1-9]|1[0-2])$", description="As 2026-11.")] | None = None
    state: State | None = None


class Payment(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A bank transfer that came, or the customer's credit. Without an amount, all that is open."""

    amount_cents: _Cents | None = None
    reference: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    received_at: Annotated[datetime, Meta(tz=True)] | None = None
    is_from_credit: bool = False


class PaymentReport(msgspec.Struct, frozen=True, kw_only=True):
    """The invoice after it. `is_new` false: the payment was booked before, nothing was changed."""

    invoice: Invoice
    is_new: bool


class Why(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Kept with the invoice."""

    reason: _Text


class Credit(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """How much is taken back; without an amount, all that is left."""

    reason: _Text
    amount_cents: _Cents | None = None


class CreditReport(msgspec.Struct, frozen=True, kw_only=True):
    """A credit note."""

    number: str
    invoice: str
    amount_cents: int
    currency: str
    reason: str


class Sending(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """To whom, if not to the buyer's own address, and whether again."""

    to: Annotated[str, Meta(max_length=254)] | None = None
    is_again: bool = False


class SendingReport(msgspec.Struct, frozen=True, kw_only=True):
    """False: it was sent before."""

    is_sent: bool


class PlanChange(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A plan from an instant on (now, if none is named). Own prices that are not named end; decimals may be text."""

    tier: Tier
    effective_at: Annotated[datetime, Meta(tz=True)] | None = None
    currency: Annotated[str, Meta(min_length=3, max_length=3)] | None = None
    monthly_cents: Annotated[int, Meta(ge=0)] | None = None
    per_request_cents: Decimal | None = None
    committed_requests: Annotated[int, Meta(ge=1)] | None = None
    overage_per_request_cents: Decimal | None = None
    discount_basis_points: Annotated[int, Meta(ge=0, le=10_000)] = 0
    reason: _Text | None = None


class PlanReport(msgspec.Struct, frozen=True, kw_only=True):
    """The lines of that month's invoice before and after, with what is used until now."""

    effective_at: datetime
    difference_cents: dict[str, int]
    before: tuple[InvoiceLine, ...]
    after: tuple[InvoiceLine, ...]


class Adjustment(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A correction of metered usage; below 0 takes back."""

    day: date
    requests: int
    reason: _Text


async def list_all_invoices(by: Viewer, call: Call, *, query: InvoiceQuery) -> Page[Invoice]:  # noqa: ARG001 -- the role is what it asks for
    """Newest first."""
    customer_id = None if query.customer is None else parse_public_id("cus", query.customer)
    if query.customer is not None and customer_id is None:
        raise ApiError("invalid_field", "customer must be an id such as cus_….", param="customer")
    month = None if query.month is None else clean_month(query.month)
    wanted = Wanted(customer_id=customer_id, month=month, state=query.state, before=before_of(query, "inv"))
    return page_of(await list_invoices(call.stores.engine, wanted, limit=query.limit + 1), query, "inv", invoice_of)


async def show_any_invoice(by: Viewer, call: Call) -> InvoiceReport:  # noqa: ARG001 -- as above
    """With its lines."""
    summary = await read_one(call.stores.engine, call.id("invoice", "inv"))
    with database_errors():
        async with call.stores.engine.connect() as connection:
            return report_of(await read_statement(connection, summary.id), summary)


async def pay_invoice(by: Admin, call: Call, *, body: Payment) -> PaymentReport:  # noqa: ARG001 -- as above
    """Paid in full, it is paid."""
    invoice_id = call.id("invoice", "inv")
    if body.is_from_credit:
        paid = await pay_from_credit(call.stores, invoice_id)
    else:
        transfer = BankTransfer(reference=body.reference, amount_cents=body.amount_cents, received_at=body.received_at)
        paid = await pay(call.stores, invoice_id, transfer)
    return PaymentReport(invoice=invoice_of(paid.invoice), is_new=paid.is_new)


async def void_invoice(by: Admin, call: Call, *, body: Why) -> Invoice:  # noqa: ARG001 -- as above
    """Its usage stays settled."""
    return invoice_of(await void(call.stores, call.id("invoice", "inv"), body.reason))


async def give_up_invoice(by: Admin, call: Call, *, body: Why) -> Invoice:  # noqa: ARG001 -- as above
    """It may still be paid."""
    return invoice_of(await give_up(call.stores, call.id("invoice", "inv"), body.reason))


async def preview_customer_plan(by: Viewer, call: Call, *, body: PlanChange) -> PlanReport:  # noqa: ARG001 -- as above
    """Changes nothing."""
    return _plan_report(await preview_plan(call.stores.engine, call.id("customer", "cus"), _plan(body)))


async def change_customer_plan(by: Admin, call: Call, *, body: PlanChange) -> PlanReport:  # noqa: ARG001 -- as above
    """In force in the limits too."""
    return _plan_report(await change_plan(call.stores, call.id("customer", "cus"), _plan(body)))


async def adjust_customer_usage(by: Admin, call: Call, *, body: Adjustment) -> None:  # noqa: ARG001 -- as above
    """A new record; of a closed month it is on the next invoice."""
    await adjust_usage(call.stores, call.id("customer", "cus"), body.day, body.requests, body.reason)


class InvoiceDesk:
    """The operations that write documents, and so must know who sends them."""

    def __init__(self, seller: Seller) -> None:
        self._seller = seller

    async def credit_invoice(self, by: Admin, call: Call, *, body: Credit) -> CreditReport:  # noqa: ARG002 -- as above
        """Never more than it asked for."""
        note = await credit(call.stores, call.id("invoice", "inv"), body.amount_cents, body.reason, self._seller)
        return CreditReport(
            number=note.number,
            invoice=public_id("inv", note.invoice_id),
            amount_cents=note.amount_cents,
            currency=note.currency,
            reason=note.reason,
        )

    async def send_invoice(self, by: Support, call: Call, *, body: Sending) -> SendingReport:  # noqa: ARG002 -- as above
        """Through the outbox."""
        invoice_id = call.id("invoice", "inv")
        is_sent = await send(call.stores, invoice_id, self._seller, to=body.to, is_again=body.is_again)
        return SendingReport(is_sent=is_sent)

    async def show_any_invoice_pdf(self, by: Viewer, call: Call) -> Document:  # noqa: ARG002 -- as above
        """A draft's says that it is one."""
        summary = await read_one(call.stores.engine, call.id("invoice", "inv"))
        with database_errors():
            async with call.stores.engine.begin() as connection:
                content = await document(connection, summary.id, self._seller)
        return Document(content=content, media_type=PDF, filename=f"{summary.number or 'draft'}.pdf")

    def endpoints(self) -> tuple[Endpoint, ...]:
        """What the desk takes in."""
        return (
            Endpoint(
                method="GET",
                path=f"{_INVOICES}/{{invoice}}.pdf",
                name="show_any_invoice_pdf",
                summary="One invoice as PDF",
                serve=self.show_any_invoice_pdf,
                media_type=PDF,
            ),
            Endpoint(
                method="POST",
                path=f"{_INVOICES}/{{invoice}}/credit",
                name="credit_invoice",
                summary="Take back some or all of an invoice by a credit note",
                serve=self.credit_invoice,
                errors=("invoice_state",),
                body_example={"reason": "An outage", "amount_cents": 60_100},
                answer_example=CREDIT_EXAMPLE,
            ),
            Endpoint(
                method="POST",
                path=f"{_INVOICES}/{{invoice}}/send",
                name="send_invoice",
                summary="E-mail an invoice with its PDF",
                serve=self.send_invoice,
                errors=("invoice_state",),
                body_example={"to": "accounts@acme.example"},
                answer_example={"is_sent": True},
            ),
        )


def _plan(body: PlanChange) -> Plan:
    own = OwnPrices(
        currency=body.currency,
        monthly_cents=body.monthly_cents,
        per_request_cents=body.per_request_cents,
        committed_requests=body.committed_requests,
        overage_per_request_cents=body.overage_per_request_cents,
        discount_basis_points=body.discount_basis_points,
    )
    return Plan(tier=body.tier, own=own, effective_at=body.effective_at, reason=body.reason)


def _plan_report(preview: Preview) -> PlanReport:
    return PlanReport(
        effective_at=preview.effective_at,
        difference_cents=dict(preview.difference_cents()),
        before=tuple(map(line_of, preview.before)),
        after=tuple(map(line_of, preview.after)),
    )


_PLAN_BODY = {
    "tier": "enterprise",
    "effective_at": "2026-11-16T12:00:00Z",
    "per_request_cents": "0.8",
    "committed_requests": 100_000,
}

BILLING_ENDPOINTS = (
    Endpoint(
        method="GET",
        path=_INVOICES,
        name="list_all_invoices",
        summary="Invoices, newest first; drafts too",
        serve=list_all_invoices,
        errors=("invalid_field",),
        answer_example={"data": [INVOICE_EXAMPLE], "next_cursor": None},
    ),
    Endpoint(
        method="GET",
        path=f"{_INVOICES}/{{invoice}}",
        name="show_any_invoice",
        summary="One invoice with its lines",
        serve=show_any_invoice,
        answer_example=REPORT_EXAMPLE,
    ),
    Endpoint(
        method="POST",
        path=f"{_INVOICES}/{{invoice}}/pay",
        name="pay_invoice",
        summary="Book a bank transfer, or the customer's credit",
        serve=pay_invoice,
        errors=("invoice_state",),
        body_example={"reference": "E2E-2026-12-03-17", "amount_cents": 286_450},
        answer_example={"invoice": INVOICE_EXAMPLE, "is_new": True},
    ),
    Endpoint(
        method="POST",
        path=f"{_INVOICES}/{{invoice}}/void",
        name="void_invoice",
        summary="As if it had never been sent; not billed again",
        serve=void_invoice,
        errors=("invoice_state",),
        body_example={"reason": "Wrong legal entity"},
        answer_example=INVOICE_EXAMPLE,
    ),
    Endpoint(
        method="POST",
        path=f"{_INVOICES}/{{invoice}}/uncollectible",
        name="give_up_invoice",
        summary="What is open is no longer expected",
        serve=give_up_invoice,
        errors=("invoice_state",),
        body_example={"reason": "Insolvent"},
        answer_example=INVOICE_EXAMPLE,
    ),
    Endpoint(
        method="POST",
        path="/admin/v1/customers/{customer}/plan/preview",
        name="preview_customer_plan",
        summary="What another plan would do to the month's invoice",
        serve=preview_customer_plan,
        errors=("billing_period",),
        body_example=_PLAN_BODY,
        answer_example=PLAN_EXAMPLE,
    ),
    Endpoint(
        method="POST",
        path="/admin/v1/customers/{customer}/plan",
        name="change_customer_plan",
        summary="Another plan, billed to the second and in force in the limits",
        serve=change_customer_plan,
        errors=("billing_period",),
        body_example=_PLAN_BODY,
        answer_example=PLAN_EXAMPLE,
    ),
    Endpoint(
        method="POST",
        path="/admin/v1/customers/{customer}/usage-adjustments",
        name="adjust_customer_usage",
        summary="Correct what was metered, by a new record",
        serve=adjust_customer_usage,
        status=201,
        body_example={"day": "2026-11-12", "requests": -400, "reason": "Our robot test"},
    ),
)
