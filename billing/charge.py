"""What a full month costs: the fee and the price of billable requests, in cents. Knows no customer and no invoice.

For what is decided while a month runs (a spend cap); invoices are made by `rating`, which also knows of parts of months.
"""

from billing.money import round_cents
from billing.terms import Terms
from billing.tiers import Tier, tier_terms

__all__ = ["month_to_date_cents", "monthly_charge_cents", "round_cents"]


def monthly_charge_cents(tier: Tier, billable_requests: int) -> int:
    """The charge for one full month at today's price list. Raises ValueError for a negative count."""
    _check(billable_requests)
    terms = tier_terms()[tier]
    return terms.monthly_cents + round_cents(terms.per_request_cents * billable_requests)


def month_to_date_cents(terms: Terms, billable_requests: int) -> int:
    """What a full month under these terms costs with that many requests: own prices, commitment and discount included."""
    _check(billable_requests)
    committed = terms.committed_requests or 0
    cents = terms.monthly_cents + round_cents(terms.per_request_cents * committed)
    cents += round_cents(terms.beyond_cents * max(0, billable_requests - committed))
    return cents - terms.discount_of(cents)


def _check(billable_requests: int) -> None:
    if billable_requests < 0:
        raise ValueError(f"billable_requests must not be negative: {billable_requests}")
