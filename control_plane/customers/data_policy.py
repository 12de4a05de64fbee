"""A customer's data policy: what it takes to change it, inside the transaction of the change. Every change is a consent row.

`train` needs somebody's name: nothing is kept for training without a person or contract that said so. The words and their order
are `identity.data_policy`'s; the verbs that call this announce the change to every running process.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.customers.tables import data_consents
from control_plane.errors import ApiError
from control_plane.identity.data_policy import MAX_KEEP_DAYS, DataPolicy
from control_plane.identity.public_id import new_id
from control_plane.keys.fields import clean_name, positive

MAX_GIVEN_BY = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDataPolicy:
    """What is agreed. `keep_days` of pictures: None is as the policy says. `given_by`: who agreed, a person or a contract."""

    policy: DataPolicy
    given_by: str | None = None
    keep_days: int | None = None


async def agreed(connection: AsyncConnection, before: Row[Any], new: NewDataPolicy, *, actor: str) -> dict[str, Any]:
    """Writes the consent; returns the customer's new columns. Raises ApiError naming the field."""
    if new.policy is DataPolicy.TRAIN and new.given_by is None:
        raise ApiError("missing_field", "given_by must say who agreed that the data is used for training.", param="given_by")
    keep_days = positive(new.keep_days, field="keep_days", at_most=MAX_KEEP_DAYS)
    if keep_days is not None and not new.policy.keeps_pictures:
        raise ApiError("invalid_field", f"keep_days has no meaning under {new.policy}: no picture is kept.", param="keep_days")
    given_by = clean_name(new.given_by or actor, field="given_by", max_length=MAX_GIVEN_BY)
    consent = {
        "id": new_id(),
        "customer_id": before.id,
        "policy": new.policy.value,
        "version": before.data_policy_version + 1,
        "keep_days": keep_days,
        "given_by": given_by,
    }
    await connection.execute(insert(data_consents).values(consent))
    return {
        "data_policy": new.policy.value,
        "is_zero_retention": new.policy is DataPolicy.ZERO,
        "data_policy_version": consent["version"],
        "data_consent_id": consent["id"],
        "data_keep_days": keep_days,
    }
