"""What may be kept of a customer's requests: four policies in one order, and the terms that are stamped on whatever is kept.

    zero      nothing but counters, latency and status: no picture, instruction or action outside memory
    standard  instruction and action in `inference_logs`; no picture
    debug     pictures too, for some days, to look into what went wrong
    train     opted in: pictures, instruction, action, verdict and feedback may become training data

Of customer, key and request the most restrictive one holds. Fails closed: a word that is none of these is refused, never ignored.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from control_plane.errors import ApiError

HEADER = "X-Data-Policy"
MAX_KEEP_DAYS = 3650


class DataPolicy(StrEnum):
    """From the most restrictive on."""

    ZERO = "zero"
    STANDARD = "standard"
    DEBUG = "debug"
    TRAIN = "train"

    @property
    def keeps_pictures(self) -> bool:
        """Whether what the cameras saw may be stored."""
        return self in {DataPolicy.DEBUG, DataPolicy.TRAIN}


_ORDER = tuple(DataPolicy)
KEEP_DAYS = {DataPolicy.ZERO: 0, DataPolicy.STANDARD: 0, DataPolicy.DEBUG: 7, DataPolicy.TRAIN: 365}  # of pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class DataTerms:
    """What holds for one request. `version` grows with each change of the customer's policy; `consent_id`: who agreed to it."""

    policy: DataPolicy = DataPolicy.STANDARD
    version: int = 1
    consent_id: UUID | None = None
    keep_days: int = 0  # of what is captured

    @property
    def is_zero(self) -> bool:
        """Whether nothing of what was asked and answered may be kept."""
        return self.policy is DataPolicy.ZERO


STANDARD_TERMS = DataTerms()
ZERO_TERMS = DataTerms(policy=DataPolicy.ZERO)


def most_restrictive(*policies: DataPolicy | None) -> DataPolicy:
    """Of those that are said. Raises ValueError for none at all."""
    return min((policy for policy in policies if policy is not None), key=_ORDER.index)


def asked_policy(text: str) -> DataPolicy:
    """The word of a request's header. Raises ApiError naming the header."""
    word = text.strip().lower()
    if word not in set(DataPolicy):
        raise ApiError("invalid_field", f"{HEADER} must be one of {', '.join(DataPolicy)}.", param=HEADER)
    return DataPolicy(word)


def lowered(terms: DataTerms, policy: DataPolicy | None) -> DataTerms:
    """The terms under a policy that may only take away: a request, or a key, that asks for more gets what there is."""
    held = most_restrictive(terms.policy, policy)
    if held is terms.policy:
        return terms
    return replace(terms, policy=held, keep_days=min(terms.keep_days, KEEP_DAYS[held]))
