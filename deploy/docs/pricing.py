"""The pricing page, as Markdown made from `billing/prices.toml`: what it says is what invoices are made of."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

from billing.money import as_decimal, round_cents
from billing.tiers import PriceVersion, Tier, price_versions, tier_terms, trial_limits, version_on

_GOOD_FOR = {Tier.FREE: "Testing", Tier.PRO: "Small production", Tier.ENTERPRISE: "Large scale"}
_EXAMPLE_REQUESTS = 36_450


def pricing(now: datetime | None = None) -> str:
    """The page, as the price list stands today."""
    today = (now or datetime.now(UTC)).date()
    version = version_on(price_versions(), today)
    cards = "\n".join(_card(tier, version) for tier in Tier)
    return "\n".join(
        [
            "---\nhide: [navigation, toc]\n---\n# Pricing\n",
            "You pay for answers: a request counts when it was answered with an action. Refused by the guard, rejected input,",
            "time-outs, our own errors and requests above a limit cost nothing.",
            f"Prices in {version.currency}, per UTC month.\n",
            f'<div class="cards" markdown>\n{cards}\n</div>\n',
            _limits(),
            _example(version),
            _changes(price_versions(), today),
            _PLACES,
        ]
    )


def _card(tier: Tier, version: PriceVersion) -> str:
    price, terms = version.prices[tier], tier_terms()[tier]
    usage = f" + {_money(price.per_request_cents, version.currency)} per request" if price.per_request_cents else ""
    month = "unlimited" if terms.per_month is None else f"{terms.per_month:,}"
    return f"""
<div class="tier" markdown>
### {tier.value.capitalize()}
<p class="price">{_money(price.monthly_cents, version.currency)}<small> / month{usage}</small></p>

- {terms.per_minute:,} requests a minute
- {terms.per_day:,} requests a day
- {month} requests a month

Good for: {_GOOD_FOR[tier].lower()}
</div>"""


def _limits() -> str:
    trial = trial_limits()
    rows = [
        f"| {tier.value} | {terms.per_minute:,} | {terms.per_day:,} | "
        f"{'unlimited' if terms.per_month is None else f'{terms.per_month:,}'} | {terms.concurrency:,} |"
        for tier, terms in tier_terms().items()
    ]
    counts = (trial.per_minute, trial.per_day, trial.per_month, trial.concurrency)
    rows.append(f"| test keys, on every tier | {' | '.join(f'{count:,}' for count in counts)} |")
    head = "| tier | per minute | per day | per month | at the same time |\n|---|---:|---:|---:|---:|\n"
    return f"## Limits\n\n{head}" + "\n".join(rows) + "\n\nTest keys run the real policies and are never billed.\n"


def _example(version: PriceVersion) -> str:
    price = version.prices[Tier.ENTERPRISE]
    usage = round_cents(price.per_request_cents * _EXAMPLE_REQUESTS)
    total = price.monthly_cents + usage
    base, extra, whole = (_money(cents, version.currency) for cents in (price.monthly_cents, usage, total))
    each = _money(price.per_request_cents, version.currency)
    return f"""## An example

Acme Robotics is on enterprise and was answered {_EXAMPLE_REQUESTS:,} times in a month:

    {base} + {_EXAMPLE_REQUESTS:,} × {each} = {base} + {extra} = {whole}
"""


def _changes(versions: Sequence[PriceVersion], today: date) -> str:
    """What is announced. Said only when there is something."""
    coming = [version for version in versions if version.effective_from > today]
    if not coming:
        return ""
    lines = [f"- from {version.effective_from:%Y-%m-%d} (UTC): {_summary(version)}" for version in coming]
    return "## Announced\n\n" + "\n".join(lines) + "\n"


def _summary(version: PriceVersion) -> str:
    return ", ".join(
        f"{tier.value} {_money(price.monthly_cents, version.currency)}"
        + (f" + {_money(price.per_request_cents, version.currency)} per request" if price.per_request_cents else "")
        for tier, price in version.prices.items()
    )


def _money(cents: Decimal | int, currency: str) -> str:
    """`$2,500`, `$0.01`; other currencies by their code."""
    amount = as_decimal(cents, currency)
    sign = "$" if currency == "USD" else f"{currency} "
    if amount == int(amount):
        return f"{sign}{amount:,.0f}"
    return f"{sign}{amount.normalize():,f}" if amount < 1 else f"{sign}{amount:,.2f}"


_PLACES = """## How it is billed

Plans change in the middle of a month by the second, invoices come after it has ended, and a [spend cap](KEYS_AND_LIMITS.md)
stops a runaway robot before it is expensive. What an invoice says, line by line, is in [billing](BILLING.md).
"""
