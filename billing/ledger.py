"""Double entry: what each event of an invoice books. Debits are positive, credits negative, and every event adds up to zero.

    finalized      receivable +total            revenue −total (fees and usage apart; what is carried: customer credit)
    payment        cash +paid (or customer credit +used)      receivable −paid (or bad debt −paid, once uncollectible)
    credit note    revenue +amount              receivable −what is open, customer credit −the rest
    uncollectible  bad debt +open               receivable −open
    void           the reverse of all that the invoice has booked

Values only; what is written where is the control plane's.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from billing.life_cycle import State
from billing.money import split
from billing.rating import METERED, Line, LineKind


class Account(StrEnum):
    """Where money is, or what it was for."""

    RECEIVABLE = "receivable"
    CASH = "cash"
    REVENUE_FEES = "revenue_fees"
    REVENUE_USAGE = "revenue_usage"
    BAD_DEBT = "bad_debt"
    CUSTOMER_CREDIT = "customer_credit"


Entries = Mapping[Account, int]


def finalized(lines: Sequence[Line]) -> Entries:
    """What the invoice asks for, as revenue of fees and of usage; discounts are shared between both by their size."""
    usage = sum(line.amount_cents for line in lines if line.kind in METERED)
    fees = sum(line.amount_cents for line in lines if line.kind in {LineKind.FEE, LineKind.COMMITMENT})
    discount = sum(line.amount_cents for line in lines if line.kind is LineKind.DISCOUNT)
    carried = sum(line.amount_cents for line in lines if line.kind is LineKind.CARRIED)
    of_fees, of_usage = _shared(discount, fees, usage)
    return _booked(
        {
            Account.RECEIVABLE: fees + usage + discount + carried,
            Account.REVENUE_FEES: -(fees + of_fees),
            Account.REVENUE_USAGE: -(usage + of_usage),
            Account.CUSTOMER_CREDIT: -carried,
        }
    )


def payment(amount_cents: int, *, state: State, is_from_credit: bool) -> Entries:
    """Money that came in for an open invoice, or credit that was used for it."""
    source = Account.CUSTOMER_CREDIT if is_from_credit else Account.CASH
    return _booked({source: amount_cents, _claim(state): -amount_cents})


def credit_note(amount_cents: int, *, open_cents: int, state: State, booked: Entries) -> Entries:
    """Takes revenue back in the proportion in which it was booked: from what is open, and the rest to the customer's credit."""
    revenue = [max(0, -booked.get(account, 0)) for account in (Account.REVENUE_FEES, Account.REVENUE_USAGE)]
    fees, usage = split(amount_cents, revenue) if any(revenue) else (amount_cents, 0)
    of_open = min(amount_cents, open_cents)
    entries = {Account.REVENUE_FEES: fees, Account.REVENUE_USAGE: usage, Account.CUSTOMER_CREDIT: of_open - amount_cents}
    return _booked({**entries, _claim(state): -of_open})


def uncollectible(open_cents: int) -> Entries:
    """What is still asked for is no longer expected."""
    return _booked({Account.BAD_DEBT: open_cents, Account.RECEIVABLE: -open_cents})


def void(booked: Entries) -> Entries:
    """As if it had never been sent."""
    return _booked({account: -cents for account, cents in booked.items()})


def _claim(state: State) -> Account:
    return Account.BAD_DEBT if state is State.UNCOLLECTIBLE else Account.RECEIVABLE


def _shared(discount: int, fees: int, usage: int) -> tuple[int, int]:
    if not discount or fees + usage == 0:
        return discount, 0
    of_fees, of_usage = split(discount, (abs(fees), abs(usage)))
    return of_fees, of_usage


def _booked(entries: Entries) -> Entries:
    return {account: cents for account, cents in entries.items() if cents}
