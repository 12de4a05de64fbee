"""What has become of frames since they were taken: deleted on request, no longer allowed, or given feedback. One look per file.

A customer who has withdrawn from `train` or `debug` meanwhile gets nothing stored any more, whatever still waits. Fails closed:
a customer that is not there allows nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.capture.sample import Sample
from control_plane.db import database_errors
from control_plane.identity.data_policy import DataPolicy, most_restrictive
from control_plane.usage.request_id import instant_of

_POLICIES = """
SELECT id, CASE WHEN is_zero_retention THEN 'zero' ELSE data_policy END AS policy FROM customer_accounts WHERE id = ANY(:ids)
"""
_DELETIONS = "SELECT customer_id, session_id, request_id, asked_at FROM data_deletions WHERE customer_id = ANY(:ids)"
_FEEDBACK = "SELECT customer_id, session_id, request_id FROM feedback WHERE customer_id = ANY(:ids) AND created_at > :since"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """What one deletion was about."""

    session_id: str | None
    request_id: UUID | None
    asked_at: datetime

    def covers(self, sample: Sample) -> bool:
        """Whether it is about this frame: everything of the customer's, a session's, or one request, up to when it was asked."""
        if self.request_id is not None:
            return self.request_id == sample.request_id
        if self.session_id is not None and self.session_id != sample.session_id:
            return False
        return instant_of(sample.request_id) <= self.asked_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The answers, by customer."""

    policies: dict[UUID, DataPolicy] = field(default_factory=dict)
    deletions: dict[UUID, list[Deletion]] = field(default_factory=dict)
    sessions: set[tuple[UUID, str]] = field(default_factory=set)
    requests: set[tuple[UUID, UUID]] = field(default_factory=set)

    def is_deleted(self, sample: Sample) -> bool:
        """Whether somebody asked for it to be deleted."""
        return any(deletion.covers(sample) for deletion in self.deletions.get(sample.customer_id, ()))

    def is_still_allowed(self, sample: Sample) -> bool:
        """Whether the customer's policy of now lets it be kept as it was taken."""
        policy, taken = self.policies.get(sample.customer_id), DataPolicy(sample.terms.policy)
        return policy is not None and most_restrictive(policy, taken) is taken

    def has_feedback(self, sample: Sample) -> bool:
        """Whether anybody said anything about it or its session."""
        customer_id = sample.customer_id
        is_session = sample.session_id is not None and (customer_id, sample.session_id) in self.sessions
        return is_session or (customer_id, sample.request_id) in self.requests


async def standing_of(engine: AsyncEngine, samples: Sequence[Sample]) -> Standing:
    """Of the customers of these samples. Raises DatabaseAwayError."""
    standing = Standing()
    if not samples:
        return standing
    ids = list({sample.customer_id for sample in samples})
    since = min(instant_of(sample.request_id) for sample in samples)
    with database_errors():
        async with engine.connect() as connection:
            for row in await connection.execute(text(_POLICIES), {"ids": ids}):
                standing.policies[row.id] = DataPolicy(row.policy)
            for row in await connection.execute(text(_DELETIONS), {"ids": ids}):
                deletion = Deletion(session_id=row.session_id, request_id=row.request_id, asked_at=row.asked_at)
                standing.deletions.setdefault(row.customer_id, []).append(deletion)
            for row in await connection.execute(text(_FEEDBACK), {"ids": ids, "since": since}):
                if row.session_id is not None:
                    standing.sessions.add((row.customer_id, row.session_id))
                if row.request_id is not None:
                    standing.requests.add((row.customer_id, row.request_id))
    return standing
