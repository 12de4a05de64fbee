"""The hash of an invoice is the same for the same content, and for no other."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from billing.rating import rate
from billing.statement import Statement, content_hash
from tests.billing.making import MONTH, used, whole_month


def a_statement() -> Statement:
    """A final invoice."""
    part = whole_month()
    return Statement(
        id=UUID(int=1),
        customer_id=UUID(int=2),
        month=MONTH,
        currency="USD",
        legal_entity="main",
        number="INV-000001",
        total_cents=250_007,
        finalized_at=datetime(2026, 12, 1, tzinfo=UTC),
        due_on=date(2026, 12, 15),
        seller={"name": "vlaapi"},
        buyer={"company_name": "Acme"},
        prices=[part.terms.as_json()],
        lines=rate(MONTH, [part], [used(part, 7)]),
    )


def test_another_form_of_the_same_price_is_the_same_content() -> None:
    one = a_statement()
    fee, usage = one.lines
    other = replace(one, lines=[fee, replace(usage, unit_cents=Decimal("1.000"))])
    assert content_hash(other) == content_hash(one)
    assert len(content_hash(one)) == 32


@pytest.mark.parametrize(
    "change", [{"total_cents": 1}, {"number": "INV-000002"}, {"buyer": {}}, {"lines": []}, {"due_on": None}, {"seller": {}}]
)
def test_any_change_changes_it(change: dict[str, object]) -> None:
    one = a_statement()
    assert content_hash(replace(one, **change)) != content_hash(one)  # type: ignore[arg-type]  # a test names fields that exist


def test_a_value_without_a_canonical_form_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="set"):
        content_hash(replace(a_statement(), seller={"name": {1, 2}}))
