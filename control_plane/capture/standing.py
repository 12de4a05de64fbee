"""What has become of frames since they were taken: deleted on request, no longer allowed, or given feedback. One look per group.

A customer who has withdrawn from `train` or `debug` meanwhile gets nothing stored any more, whatever still waits. Fails closed:
a customer that is not there allows nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.capture.sample import Sample
from control_plane.identity.data_policy import DataPolicy, most_restrictive
from control_plane.usage import forgotten
from control_plane.usage.forgotten import Forgotten
from control_plane.usage.request_id import instant_of

_POLICY = """
SELECT CASE WHEN is_zero_retention THEN 'zero' ELSE data_policy END AS policy FROM customer_accounts WHERE id = :customer
"""
_FEEDBACK = "SELECT session_id, request_id FROM feedback WHERE customer_id = :customer AND created_at > :since"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The answers, for one customer. `policy` None: there is no such customer."""

    policy: DataPolicy | None
    deletions: Sequence[Forgotten] = ()
    sessions: set[str] = field(default_factory=set)
    requests: set[UUID] = field(default_factory=set)

    def is_deleted(self, sample: Sample) -> bool:
        """Whether somebody asked for it to be deleted."""
        about = (sample.customer_id, sample.request_id, sample.session_id, instant_of(sample.request_id))
        return any(one.covers(*about) for one in self.deletions)

    def is_still_allowed(self, sample: Sample) -> bool:
        """Whether the customer's policy of now lets it be kept as it was taken."""
        taken = DataPolicy(sample.terms.policy)
        return self.policy is not None and most_restrictive(self.policy, taken) is taken

    def has_feedback(self, sample: Sample) -> bool:
        """Whether anybody said anything about it or its session."""
        return sample.session_id in self.sessions or sample.request_id in self.requests


async def standing_of(connection: AsyncConnection, samples: Sequence[Sample]) -> Standing:
    """Of samples of one customer, at least one. What it says of deletions holds while the caller holds the frames' gate."""
    customer_id, ids = samples[0].customer_id, [sample.request_id for sample in samples]
    policy = await connection.scalar(text(_POLICY), {"customer": customer_id})
    said = (await connection.execute(text(_FEEDBACK), {"customer": customer_id, "since": min(map(instant_of, ids))})).all()
    return Standing(
        policy=None if policy is None else DataPolicy(policy),
        deletions=await forgotten.asked(connection, customer_id, ids),
        sessions={row.session_id for row in said if row.session_id is not None},
        requests={row.request_id for row in said if row.request_id is not None},
    )
