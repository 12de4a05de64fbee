"""How many of the original's tokens a variant of lower precision must choose, as the commands that make one take it.

A variant that chooses half of them differently is another policy, so nobody may ask for less. The commands read it; what is made
is judged where it is made.
"""

from typing import Annotated

import typer

LEAST_AGREEMENT = 0.9
_FLOOR = 0.5


def _number(text: str | float) -> float:
    """From the floor to one; NaN is neither."""
    share = float(text)
    if not _FLOOR <= share <= 1.0:
        raise typer.BadParameter(f"is {share:g}, must be from {_FLOOR:g} to 1")
    return share


LeastAgreement = Annotated[
    float, typer.Option(parser=_number, metavar="SHARE", help="Share of tokens that must be the original's, from 0.5 to 1.")
]
