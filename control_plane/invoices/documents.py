"""The PDF of a final invoice: made once from what was frozen, kept as it was sent, and found again.

Runs after the invoices are final and can be run again: only what is missing is made.
"""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import date
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.invoices.pdf import invoice_pdf
from control_plane.invoices.reading import read_statement
from control_plane.invoices.seller import Seller

PDF = "application/pdf"
_PAGE = 200
_MISSING = text("""
    SELECT i.id FROM invoices i
    WHERE i.month = :month AND i.state <> 'draft' AND i.id > :after
      AND NOT EXISTS (SELECT FROM invoice_documents d WHERE d.invoice_id = i.id AND d.media_type = 'application/pdf')
    ORDER BY i.id LIMIT :page
""")
_COUNT = text("""
    SELECT count(*) FROM invoices i WHERE i.month = :month AND i.state <> 'draft'
      AND NOT EXISTS (SELECT FROM invoice_documents d WHERE d.invoice_id = i.id AND d.media_type = 'application/pdf')
""")
_KEEP = text("""
    INSERT INTO invoice_documents (invoice_id, media_type, content, sha256) VALUES (:id, 'application/pdf', :content, :sha256)
    ON CONFLICT DO NOTHING
""")
_KEPT = text("SELECT content FROM invoice_documents WHERE invoice_id = :id AND media_type = 'application/pdf'")


async def keep_documents(engine: AsyncEngine, month: date, seller: Seller, *, progress: Callable[[str, int, int], None]) -> int:
    """Makes the documents of a month that are missing. Returns how many."""
    made, after = 0, UUID(int=0)
    async with engine.connect() as connection:
        of = await connection.scalar(_COUNT, {"month": month})
    while True:
        async with engine.connect() as connection:
            page = (await connection.scalars(_MISSING, {"month": month, "after": after, "page": _PAGE})).all()
        for invoice_id in page:
            async with engine.begin() as connection:
                await document(connection, invoice_id, seller)
            made += 1
            progress("documents", made, of)
        if len(page) < _PAGE:
            return made
        after = page[-1]


async def kept_document(connection: AsyncConnection, invoice_id: UUID) -> bytes | None:
    """The PDF, if it was made already."""
    kept: bytes | None = await connection.scalar(_KEPT, {"id": invoice_id})
    return kept


async def document(connection: AsyncConnection, invoice_id: UUID, seller: Seller) -> bytes:
    """The kept PDF, made and kept now if there is none. A draft's is made and not kept."""
    if (kept := await kept_document(connection, invoice_id)) is not None:
        return kept
    statement = await read_statement(connection, invoice_id)
    content = await asyncio.to_thread(invoice_pdf, statement, seller)
    if statement.number is None:
        return content
    await connection.execute(_KEEP, {"id": invoice_id, "content": content, "sha256": hashlib.sha256(content).digest()})
    again: bytes = await connection.scalar(_KEPT, {"id": invoice_id})
    return again
