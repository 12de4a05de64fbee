"""What a month costs: the tier's fee and its price per billable request, in cents. Knows no customer and no invoice.

Unit prices are exact decimals (a hundredth of a cent is possible); rounding happens once, at the end of a line, in `round_cents`.
"""

from decimal import ROUND_HALF_UP, Decimal

from billing.tiers import Tier, tier_terms


def monthly_charge_cents(tier: Tier, billable_requests: int) -> int:
    """The charge for one full month. Raises ValueError for a negative count."""
    if billable_requests < 0:
        raise ValueError(f"billable_requests must not be negative: {billable_requests}")
    terms = tier_terms()[tier]
    return terms.monthly_cents + round_cents(terms.per_request_cents * billable_requests)


def round_cents(amount_cents: Decimal) -> int:
    """Whole cents, half a cent away from zero: as people round on paper."""
    return int(amount_cents.quantize(Decimal(1), rounding=ROUND_HALF_UP))
