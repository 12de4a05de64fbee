"""`vlaapi usage audit`: a month derived again from its archived files. For operators; words and output only."""

import asyncio
from datetime import date
from typing import NoReturn

import typer

from control_plane.db import connect, database_errors
from control_plane.objects import ObjectStoreAwayError, create_objects
from control_plane.usage.archive.audit import Audit, audit_month

TIMEOUT_S = 600.0


def audit(database_url: str, objects_url: str | None, month: date) -> NoReturn:
    """Prints every finding; ends with 1 if there is one or the store cannot be asked."""
    if objects_url is None:
        raise typer.BadParameter("VLA_OBJECT_STORE_URL is not set: there is no archive to look into", param_hint="--month")
    try:
        found = asyncio.run(_audit(database_url, objects_url, month))
    except ObjectStoreAwayError as error:
        typer.echo(f"vlaapi: the object store cannot be reached ({error})", err=True)
        raise typer.Exit(1) from None
    for finding in found.findings:
        typer.echo(finding)
    typer.echo(_summary(found))
    raise typer.Exit(1 if found.findings else 0)


async def _audit(database_url: str, objects_url: str, month: date) -> Audit:
    objects = create_objects(objects_url)
    try:
        with database_errors():
            connection = await connect(database_url, timeout_s=TIMEOUT_S, name="vlaapi-audit")
            try:
                return await audit_month(connection, objects, month)
            finally:
                await connection.close()
    finally:
        await objects.aclose()


def _summary(found: Audit) -> str:
    looked = f"{found.days_from_files} days from files, {found.days_from_database} from the database"
    counts = f"{found.totals['requests']} requests, {found.totals['billable_requests']} billable"
    verdict = "everything agrees" if not found.findings else f"{len(found.findings)} findings"
    return f"{found.month:%Y-%m}: {looked}; {counts}; {verdict}"
