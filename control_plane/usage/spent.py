"""How many requests of a month one customer will be asked to pay, as the stores say at this moment: never too few.

A request is in flight, then in the stream (or for moments in a spool), then a row; who looks in this order sees each at least
once, and the ids tell the same one apart. Billing's corrections of the month count too. Called by `limits.spend`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

import msgspec
from redis.asyncio import Redis
from sqlalchemy import ARRAY, DateTime, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import database_errors
from control_plane.usage.event import UsageStatus
from control_plane.usage.request_id import RequestIdError, instant_of, parse
from control_plane.usage.stream import FIELD, STREAM

_AT_ONCE = 1000

# One statement, so one snapshot: an event is either recorded, and in the roll-up, or still counted by its id.
_BILLABLE = text("""
    SELECT COALESCE((SELECT billable_requests FROM usage_months WHERE customer_id = :customer AND month = :first), 0)
         + COALESCE((SELECT sum(quantity) FROM usage_adjustments
                     WHERE customer_id = :customer AND day >= :first AND day < :beyond), 0)
         + (SELECT count(*) FROM unnest(:ids, :instants) AS waiting (id, instant)
            WHERE NOT EXISTS (SELECT FROM inference_logs WHERE request_id = id AND timestamp = instant))
""").bindparams(bindparam("ids", type_=ARRAY(Uuid)), bindparam("instants", type_=ARRAY(DateTime(timezone=True))))


class _Event(msgspec.Struct):
    """What of an event matters here."""

    request_id: UUID
    customer_id: UUID
    status: str
    is_test: bool = False


_DECODER = msgspec.msgpack.Decoder(_Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class BillableCount:
    """A `limits.spend.Count` over this process's stores."""

    engine: AsyncEngine
    redis: Redis

    async def __call__(self, customer_id: UUID, month: int, leases: Sequence[bytes]) -> int:
        """Raises DatabaseAwayError or one of REDIS_AWAY."""
        waiting, seen = await self._in_stream(customer_id)
        in_flight = set(_request_ids(leases)) - seen
        first, beyond = _first_day(month), _first_day(month + 1)
        instants = {id_: instant for id_ in waiting | in_flight if first <= (instant := instant_of(id_)).date() < beyond}
        return await self._recorded(customer_id, first, beyond, instants)

    async def _in_stream(self, customer_id: UUID) -> tuple[set[UUID], set[UUID]]:
        """The customer's events that wait to be recorded: the billable ones, and all."""
        billable: set[UUID] = set()
        seen: set[UUID] = set()
        start = "-"
        while True:
            entries: list[tuple[bytes, dict[bytes, bytes]]] = await self.redis.xrange(STREAM, start, count=_AT_ONCE)  # type: ignore[assignment]  # bytes in, bytes out
            for event in _events(fields[FIELD] for _, fields in entries if FIELD in fields):
                if event.customer_id == customer_id:
                    seen.add(event.request_id)
                    if event.status == UsageStatus.SUCCESS and not event.is_test:
                        billable.add(event.request_id)
            if len(entries) < _AT_ONCE:
                return billable, seen
            start = f"({entries[-1][0].decode()}"

    async def _recorded(self, customer_id: UUID, first: date, beyond: date, instants: dict[UUID, datetime]) -> int:
        values = {"customer": customer_id, "first": first, "beyond": beyond}
        values |= {"ids": list(instants), "instants": list(instants.values())}
        with database_errors():
            async with self.engine.connect() as connection:
                return max(0, int((await connection.execute(_BILLABLE, values)).scalar_one()))


def _events(payloads: Iterable[bytes]) -> Iterable[_Event]:
    for payload in payloads:
        try:
            yield _DECODER.decode(payload)
        except (msgspec.DecodeError, ValueError):  # no event of ours: the recorder sets it aside
            continue


def _request_ids(leases: Iterable[bytes]) -> Iterable[UUID]:
    for lease in leases:
        try:
            yield parse(lease.decode("ascii", "replace"))
        except RequestIdError:
            continue


def _first_day(month: int) -> date:
    year, month_of_year = divmod(month, 12)
    return date(year, month_of_year + 1, 1)
