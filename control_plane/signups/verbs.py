"""What can be done with sign-ups. Whoever asks learns nothing: the answer is the same whether the address is known or not.

Approval is one transaction: customer, key, welcome e-mail and the decision are all there, or none. The key goes only into that
e-mail, sealed until it is sent (docs/decisions/0021-a-key-by-mail.md): no operator, table or log sees it.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from billing.tiers import Tier
from control_plane.audit.record import Change, record
from control_plane.customers.verbs import CustomerSummary, NewCustomer, clean_company_name, insert_customer
from control_plane.db import database_errors
from control_plane.errors import ApiError
from control_plane.identity.public_id import new_id, public_id
from control_plane.keys.verbs import IssuedKey, NewKey, Stores, announce, no_such
from control_plane.mail.letters import Letterhead, write_letter
from control_plane.mail.outbox import SECRET, Mail, clean_recipient, enqueue, enqueue_with_secret
from control_plane.signups.tables import signups

STATUSES = ("waiting", "approved", "rejected")
MAX_USE_CASE = 2000
_VISIBLE_BREAKS = "\n\t"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSignup:
    """What somebody says about themselves."""

    company_name: str
    email: str
    use_case: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """The new customer, without the key: that is in the e-mail only."""

    signup: Row[Any]
    customer: CustomerSummary
    key_start: str
    is_announced: bool


async def ask(stores: Stores, letterhead: Letterhead, new: NewSignup) -> None:
    """Keeps the request and tells the operator, once while it waits. Raises ApiError naming the field at fault."""
    values = {
        "id": new_id(),
        "company_name": clean_company_name(new.company_name),
        "email": clean_recipient(new.email),
        "use_case": _clean_use_case(new.use_case),
    }
    statement = insert(signups).values(values).on_conflict_do_nothing().returning(signups)
    with database_errors():
        async with stores.engine.begin() as connection:
            row = (await connection.execute(statement)).one_or_none()
            if row is not None and letterhead.operator_email is not None:
                await enqueue(connection, _notice(letterhead, letterhead.operator_email, row))


async def approve(stores: Stores, letterhead: Letterhead, signup_id: UUID, *, tier: Tier) -> Approved:
    """Makes the customer and a key, and welcomes them. Raises ApiError when it is decided already or the address is taken."""
    with database_errors():
        async with stores.engine.begin() as connection:
            asked = await _waiting(connection, signup_id)
            new = NewCustomer(company_name=asked.company_name, email=asked.email, tier=tier)
            customer, key = await insert_customer(connection, stores, new, NewKey())
            mail = _welcome(letterhead, signup_id, customer, key)
            await enqueue_with_secret(connection, mail, key.text, pepper=stores.pepper)
            row = await _decide(connection, stores, asked, {"status": "approved", "customer_id": customer.id})
    is_announced = await announce(stores.redis, [key.digest])
    return Approved(signup=row, customer=customer, key_start=key.start, is_announced=is_announced)


async def reject(stores: Stores, signup_id: UUID) -> Row[Any]:
    """Nobody is told; the address may ask again."""
    with database_errors():
        async with stores.engine.begin() as connection:
            return await _decide(connection, stores, await _waiting(connection, signup_id), {"status": "rejected"})


async def list_signups(engine: AsyncEngine, *, status: str | None, before_id: UUID | None, limit: int) -> Sequence[Row[Any]]:
    """Newest first."""
    query = select(signups).order_by(signups.c.id.desc()).limit(limit)
    if status is not None:
        query = query.where(signups.c.status == status)
    if before_id is not None:
        query = query.where(signups.c.id < before_id)
    with database_errors():
        async with engine.connect() as connection:
            return (await connection.execute(query)).all()


async def _waiting(connection: AsyncConnection, signup_id: UUID) -> Row[Any]:
    row = (await connection.execute(select(signups).where(signups.c.id == signup_id).with_for_update())).one_or_none()
    if row is None:
        raise no_such("signup", public_id("sup", signup_id))
    if row.status != "waiting":
        raise ApiError("invalid_field", f"this sign-up is {row.status} already.", param="signup")
    return row


async def _decide(connection: AsyncConnection, stores: Stores, asked: Row[Any], values: dict[str, Any]) -> Row[Any]:
    values |= {"decided_by": stores.by.actor, "decided_at": datetime.now(UTC)}
    statement = update(signups).where(signups.c.id == asked.id).values(values).returning(signups)
    row: Row[Any] = (await connection.execute(statement)).one()
    target, after = public_id("sup", asked.id), {"status": row.status}
    change = Change(action=f"signup.{row.status}", target=target, customer_id=row.customer_id, after=after)
    await record(connection, stores.by, change)
    return row


def _notice(letterhead: Letterhead, operator_email: str, row: Row[Any]) -> Mail:
    values = {"signup": public_id("sup", row.id), "company_name": row.company_name, "email": row.email, "use_case": row.use_case}
    letter = write_letter("signup_notice", letterhead, values)
    key = f"signup-notice {row.id.hex}"
    return Mail(to=operator_email, subject=letter.subject, text=letter.text, html=letter.html, dedupe_key=key)


def _welcome(letterhead: Letterhead, signup_id: UUID, customer: CustomerSummary, key: IssuedKey) -> Mail:
    values = {
        "company_name": customer.company_name,
        "customer": public_id("cus", customer.id),
        "tier": customer.tier.value,
        "limits": customer.limits,
        "key_start": key.start,
        "secret": SECRET,
    }
    letter = write_letter("welcome", letterhead, values)
    dedupe_key = f"welcome {signup_id.hex}"
    return Mail(to=customer.email, subject=letter.subject, text=letter.text, html=letter.html, dedupe_key=dedupe_key)


def _clean_use_case(text: str) -> str:
    kept = "".join(
        c for c in text.strip() if c in _VISIBLE_BREAKS or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn"}
    )
    if not kept:
        raise ApiError("invalid_field", "use_case must not be empty.", param="use_case")
    if len(kept) > MAX_USE_CASE:
        raise ApiError("invalid_field", f"use_case must not be longer than {MAX_USE_CASE} characters.", param="use_case")
    return kept
