"""How money for an invoice comes in, behind one small protocol. Today: a transfer that a person saw, or the customer's credit.

A payment provider fits here as one more class: `collect` asks it for the money and returns what it says. The same reference told
twice is one payment, so `collect` may be repeated after a crash; a provider is asked with the invoice's id as idempotency key.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from control_plane.identity.public_id import public_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What is to be collected."""

    invoice_id: UUID
    customer_id: UUID
    number: str
    amount_cents: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What was collected. `reference` names it at whoever moved the money."""

    reference: str
    amount_cents: int
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is known of a payment before it is collected, so that one told twice is found. No amount: whatever it was."""

    reference: str
    amount_cents: int | None = None


class Payments(Protocol):
    """A way to be paid."""

    @property
    def method(self) -> str:
        """How the books name it."""
        ...

    def told(self, demand: Demand) -> Told | None:
        """The payment, if it has a name before the money is asked for."""
        ...

    async def collect(self, demand: Demand) -> Receipt:
        """Gets the money, or says how much came. Raises ApiError when it cannot."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BankTransfer:
    """Money that is in the account already: a person has seen it on the statement. None: all that was asked for."""

    reference: str | None = None
    amount_cents: int | None = None
    received_at: datetime | None = None
    method: str = "bank_transfer"

    def told(self, demand: Demand) -> Told:
        """What the bank calls it; without a reference, the invoice's number."""
        cents = demand.amount_cents if self.amount_cents is None else self.amount_cents
        return Told(reference=self.reference or demand.number, amount_cents=cents or None)

    async def collect(self, demand: Demand) -> Receipt:
        """What the person says."""
        return Receipt(
            reference=self.told(demand).reference,
            amount_cents=demand.amount_cents if self.amount_cents is None else self.amount_cents,
            received_at=self.received_at or datetime.now(UTC),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FromCredit:
    """The customer's own credit, from credit notes on what was paid already; used once for an invoice, as far as it goes."""

    available_cents: int
    method: str = "customer_credit"

    def told(self, demand: Demand) -> Told:
        """One for an invoice."""
        return Told(reference=public_id("inv", demand.invoice_id))

    async def collect(self, demand: Demand) -> Receipt:
        """As much as there is."""
        cents = min(self.available_cents, demand.amount_cents)
        return Receipt(reference=self.told(demand).reference, amount_cents=cents, received_at=datetime.now(UTC))
