"""Which rows of which tables are about a customer, found in the database's own catalogue: a room added tomorrow is in it too.

A table with a `customer_id`, whatever refers to a row of such a table by a foreign key, and e-mails to the customer's address.
Conditions are SQL over `:id`. Knows no file and no object.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

# Parents of partitions, not the partitions themselves.
_TABLES = """
SELECT c.relname AS name, bool_or(a.attname = 'customer_id') AS is_theirs
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND a.attnum > 0 AND NOT a.attisdropped GROUP BY 1 ORDER BY 1
"""
_REFERENCES = """
SELECT c.relname AS name, a.attname AS of, p.relname AS parent, b.attname AS parent_of
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class p ON p.oid = k.confrelid
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.conkey[1]
JOIN pg_attribute b ON b.attrelid = p.oid AND b.attnum = k.confkey[1]
WHERE k.contype = 'f' AND c.relnamespace = current_schema()::regnamespace AND NOT c.relispartition
  AND cardinality(k.conkey) = 1 AND c.oid <> p.oid ORDER BY 1, 2
"""
_SAID = {
    "customer_accounts": "id = :id",
    "mails": "lower(recipient) = (SELECT lower(email) FROM customer_accounts WHERE id = :id)",
}


async def held_of(connection: AsyncConnection) -> Mapping[str, str]:
    """The condition of each table that may have rows of a customer."""
    tables = (await connection.execute(text(_TABLES))).all()
    found = {table.name: "customer_id = :id" for table in tables if table.is_theirs}
    found |= {table.name: _SAID[table.name] for table in tables if table.name in _SAID}
    references = (await connection.execute(text(_REFERENCES))).all()
    while further := _further(found, references):
        found |= further
    return dict(sorted(found.items()))


def _further(found: Mapping[str, str], references: Sequence[Row[Any]]) -> dict[str, str]:
    """Tables that refer to those."""
    ways = defaultdict(list)
    for one in references:
        if one.name not in found and one.parent in found:
            theirs = f'SELECT "{one.parent_of}" FROM "{one.parent}" WHERE {found[one.parent]}'  # noqa: S608 -- the catalogue's names
            ways[one.name].append(f'"{one.of}" IN ({theirs})')
    return {name: " OR ".join(conditions) for name, conditions in ways.items()}
