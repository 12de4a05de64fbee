"""Whether a restored database is what the backup says: every count, the ledger, and every truth of billing.

Gives one line per thing that was looked at, good or bad. The truths are told in this release's schema, so a copy of an older one
is migrated after it was counted, as it would be if it were needed. Nothing is repaired.
"""

import asyncio
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from control_plane.backups.dump import STATEMENT_TIMEOUT_S
from control_plane.backups.facts import read_facts
from control_plane.backups.manifest import Facts, LedgerSum, Manifest
from control_plane.db import connect, create_engine
from control_plane.revenue.truths import check


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing: what the backup says, and what the restored database has."""

    what: str
    expected: str
    found: str

    @property
    def is_right(self) -> bool:
        """They are the same."""
        return self.expected == self.found


async def prove(manifest: Manifest, database_url: str) -> list[Finding]:
    """Raises DatabaseAwayError."""
    connection = await connect(database_url, timeout_s=STATEMENT_TIMEOUT_S, name="vlaapi-backup-verify")
    try:
        found = await read_facts(connection)
    finally:
        await connection.close()
    fault = await asyncio.to_thread(_brought_up_to_date, database_url, found.schema_revision)
    truths = await _truths(database_url) if fault is None else [Finding(what="truths of billing", expected="hold", found=fault)]
    return [*_differences(manifest.facts, found), *truths]


def _brought_up_to_date(database_url: str, revision: str | None) -> str | None:
    """Why it cannot be."""
    from control_plane.migrations import is_known, upgrade  # Alembic is slow to load, and few commands need it

    if not is_known(revision):
        return f"not looked at: this release does not know the schema {revision}; verify with the release that made it"
    try:
        upgrade(database_url)
    except SQLAlchemyError as error:
        return f"not looked at: it cannot be migrated from {revision} ({str(error).splitlines()[0]})"
    return None


def _differences(expected: Facts, found: Facts) -> list[Finding]:
    pairs = [("schema revision", str(expected.schema_revision), str(found.schema_revision))]
    for table in sorted(expected.rows.keys() | found.rows.keys()):
        pairs.append((f"rows of {table}", str(expected.rows.get(table, "no table")), str(found.rows.get(table, "no table"))))
    accounts = [(_account(one), str(one.amount_cents)) for one in expected.ledger]
    there = {_account(one): str(one.amount_cents) for one in found.ledger}
    for account in sorted(dict(accounts).keys() | there.keys()):
        pairs.append((f"ledger: {account}, cents", dict(accounts).get(account, "no entry"), there.get(account, "no entry")))
    return [Finding(what=what, expected=one, found=other) for what, one, other in pairs]


def _account(one: LedgerSum) -> str:
    return f"{one.account} in {one.currency}"


async def _truths(database_url: str) -> list[Finding]:
    engine = create_engine(database_url, pool_size=1, timeout_s=STATEMENT_TIMEOUT_S)
    try:
        found = await check(engine)
    finally:
        await engine.dispose()
    return [
        Finding(what=f"truth: {name}", expected="holds", found=violations[0].detail if violations else "holds")
        for name, violations in found.items()
    ]
