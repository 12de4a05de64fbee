"""Every event of an invoice balances, and all events together end where they should."""

from hypothesis import given
from hypothesis import strategies as st

from billing import ledger
from billing.ledger import Account
from billing.life_cycle import State
from billing.rating import Line, LineKind
from billing.segments import midnight
from tests.billing.making import MONTH

CENTS = st.integers(0, 10**9)


def line(kind: LineKind, cents: int) -> Line:
    """A line of that kind."""
    begin = midnight(MONTH)
    return Line(
        kind=kind, description="", currency="USD", service_month=MONTH, starts_at=begin, ends_at=begin, amount_cents=cents
    )


def lines(fee: int, usage: int, discount: int) -> list[Line]:
    """Those of a usual invoice."""
    return [line(LineKind.FEE, fee), line(LineKind.USAGE, usage), line(LineKind.DISCOUNT, -discount)]


def added(*events: ledger.Entries) -> dict[Account, int]:
    """What is left on each account."""
    sums = {account: sum(event.get(account, 0) for event in events) for account in Account}
    return {account: cents for account, cents in sums.items() if cents}


@given(CENTS, CENTS, st.data())
def test_every_event_balances(fee: int, usage: int, data: st.DataObject) -> None:
    total = fee + usage - (discount := data.draw(st.integers(0, fee + usage)))
    final = ledger.finalized(lines(fee, usage, discount))
    paid = data.draw(st.integers(0, total))
    credited = data.draw(st.integers(0, total))
    state = data.draw(st.sampled_from([State.FINALIZED, State.UNCOLLECTIBLE]))
    events = [
        final,
        ledger.payment(paid, state=state, is_from_credit=data.draw(st.booleans())),
        ledger.credit_note(credited, open_cents=total - paid, state=state, booked=final),
        ledger.uncollectible(total - paid),
        ledger.void(final),
    ]
    assert [sum(event.values()) for event in events] == [0] * len(events)
    assert all(all(event.values()) for event in events)
    assert -final.get(Account.REVENUE_FEES, 0) - final.get(Account.REVENUE_USAGE, 0) == total


def test_a_discount_is_shared_between_fees_and_usage() -> None:
    assert ledger.finalized(lines(300, 100, 40)) == {
        Account.RECEIVABLE: 360,
        Account.REVENUE_FEES: -270,
        Account.REVENUE_USAGE: -90,
    }


def test_what_is_carried_is_the_customers() -> None:
    final = ledger.finalized([line(LineKind.USAGE, -7), line(LineKind.CARRIED, 7)])
    assert final == {Account.REVENUE_USAGE: 7, Account.CUSTOMER_CREDIT: -7}


def test_paid_late_after_all_leaves_no_bad_debt() -> None:
    final = ledger.finalized(lines(100, 0, 0))
    events = (final, ledger.uncollectible(100), ledger.payment(100, state=State.UNCOLLECTIBLE, is_from_credit=False))
    assert added(*events) == {Account.CASH: 100, Account.REVENUE_FEES: -100}


def test_a_credit_note_on_a_paid_invoice_is_the_customers_credit() -> None:
    final = ledger.finalized(lines(75, 25, 0))
    note = ledger.credit_note(40, open_cents=0, state=State.PAID, booked=final)
    assert note == {Account.REVENUE_FEES: 30, Account.REVENUE_USAGE: 10, Account.CUSTOMER_CREDIT: -40}


def test_a_credit_note_on_an_invoice_without_revenue_is_on_fees() -> None:
    assert ledger.credit_note(1, open_cents=1, state=State.FINALIZED, booked={})[Account.REVENUE_FEES] == 1


def test_a_discount_on_nothing_is_on_fees() -> None:
    assert ledger.finalized([line(LineKind.DISCOUNT, -5), line(LineKind.CARRIED, 5)])[Account.REVENUE_FEES] == 5


def test_a_void_invoice_leaves_nothing_on_any_account() -> None:
    final = ledger.finalized(lines(300, 100, 40))
    assert added(final, ledger.void(final)) == {}
