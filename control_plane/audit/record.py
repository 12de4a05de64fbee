"""Writes one line of the audit log inside the caller's transaction: the change and its line are both there, or neither is.

No secret ever: text shaped like one of our keys is cut, and values under names that say "secret" are left out, whoever passes
them. Called by verbs; knows no verb, no HTTP and no command line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.audit.tables import audit_log
from control_plane.identity.public_id import new_id
from control_plane.logs import cut_keys

LEFT_OUT = "(left out)"
_SECRET_WORDS = ("secret", "password", "digest", "pepper", "api_key", "token")
_LONGEST_ACTOR, _LONGEST_TARGET = 200, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who makes a change, in words (`operator opr_…`, `key key_…`, `command line alice`, `worker`), and in which request."""

    actor: str = "unknown"
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What was done: `action` as `customer.set_tier`, `target` as a public id, and the fields that differ."""

    action: str
    target: str
    customer_id: UUID | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


async def record(connection: AsyncConnection, by: By, change: Change) -> None:
    """One line. `connection` must be in the transaction that makes the change."""
    line = {
        "id": new_id(),
        "actor": cut_keys(by.actor)[:_LONGEST_ACTOR],
        "action": change.action,
        "target": cut_keys(change.target)[:_LONGEST_TARGET],
        "customer_id": change.customer_id,
        "before": _harmless(change.before),
        "after": _harmless(change.after),
        "request_id": by.request_id,
    }
    await connection.execute(insert(audit_log).values(line))


def _harmless(fields: Mapping[str, Any] | None) -> Any:
    """Plain JSON values without anything secret. Instants, ids and enums become text."""
    return None if fields is None else _cut(msgspec.to_builtins(dict(fields), str_keys=True))


def _cut(value: Any) -> Any:
    match value:
        case str():
            return cut_keys(value).replace("\0", "?")
        case dict():
            return {name: LEFT_OUT if _is_secret(name) else _cut(part) for name, part in value.items()}
        case list() | tuple():
            return [_cut(part) for part in value]
        case _:
            return value


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_WORDS)
