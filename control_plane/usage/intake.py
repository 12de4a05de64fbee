"""Payloads become rows: examined, given their partitions, stored in batches, and set aside one by one where that cannot be.

Asks nothing of Redis and does not know where payloads come from: the recorder brings them from the stream, `vlaapi usage retry`
from the dead letters.
"""

from collections.abc import Sequence
from datetime import date, datetime

import asyncpg

from control_plane.usage.dead_letters import DeadLetter, Reason
from control_plane.usage.inference_logs import Outcome, RowsRejectedError, store
from control_plane.usage.partitions import ensure_partitions
from control_plane.usage.rows import Row, examine


class Intake:
    """Takes payloads into one database; remembers which days are known to have a partition."""

    def __init__(self) -> None:
        self._days: set[date] = set()

    async def take(self, connection: "asyncpg.Connection", payloads: Sequence[bytes], *, now: datetime) -> Outcome:
        """Each payload is afterwards a row (this one or an earlier one) or a dead letter.

        Raises what asyncpg raises when the server is away or busy; then some may be stored already, and all may be taken again.
        """
        examined = [examine(payload, now=now) for payload in payloads]
        rows = [row for row in examined if isinstance(row, Row)]
        dead = [letter for letter in examined if isinstance(letter, DeadLetter)]
        rows, homeless = await self._with_partition(connection, rows)
        return await _store(connection, rows, dead + homeless)

    def forget_days(self) -> None:
        """After a failure: a partition may have been dropped."""
        self._days.clear()

    async def _with_partition(self, connection: "asyncpg.Connection", rows: list[Row]) -> tuple[list[Row], list[DeadLetter]]:
        missing = {row.occurred_at.date() for row in rows} - self._days
        if not missing:
            return rows, []
        self._days |= await ensure_partitions(connection, missing)
        homeless = [row for row in rows if row.occurred_at.date() not in self._days]
        letters = [_letter(row, Reason.NO_PARTITION, "its day was archived or detached") for row in homeless]
        return [row for row in rows if row.occurred_at.date() in self._days], letters


async def _store(connection: "asyncpg.Connection", rows: Sequence[Row], dead: Sequence[DeadLetter]) -> Outcome:
    """Stores them; when the database refuses the batch, each half by itself, down to the rows at fault."""
    try:
        return await store(connection, rows, dead=dead)
    except RowsRejectedError as error:
        if not rows:
            raise
        if len(rows) == 1:
            return await store(connection, (), dead=[*dead, _letter(rows[0], Reason.REJECTED, str(error))])
    middle = len(rows) // 2
    return await _store(connection, rows[:middle], dead) + await _store(connection, rows[middle:], ())


def _letter(row: Row, reason: Reason, detail: str) -> DeadLetter:
    return DeadLetter(payload=row.payload, reason=reason, detail=detail, request_id=row.request_id)
