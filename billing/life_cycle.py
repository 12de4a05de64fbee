"""The life of an invoice: which state follows which. The database holds the same table as a trigger; a test compares them."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """Where an invoice stands. Only a draft may change; what is open is asked for."""

    DRAFT = "draft"
    FINALIZED = "finalized"
    PAID = "paid"
    VOID = "void"
    UNCOLLECTIBLE = "uncollectible"


NEXT: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.DRAFT: frozenset({State.FINALIZED}),
        State.FINALIZED: frozenset({State.PAID, State.VOID, State.UNCOLLECTIBLE}),
        State.UNCOLLECTIBLE: frozenset({State.PAID, State.VOID}),
        State.PAID: frozenset(),
        State.VOID: frozenset(),
    }
)

OPEN = frozenset({State.FINALIZED, State.UNCOLLECTIBLE})
