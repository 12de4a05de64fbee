"""A dropped month is derived again from its files; whatever was changed since is found."""

import asyncio
import hashlib
import io
import json
from pathlib import Path
from uuid import UUID

import asyncpg
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from control_plane.usage.archive.audit import audit_month
from control_plane.usage.archive.manifest import day_key, manifest_key
from control_plane.usage.archive.parquet import SCHEMA, DayWriter, count_again
from control_plane.usage.archive.retention import Archivist
from control_plane.usage.commands import create_commands
from control_plane.usage.event import UsageEvent
from tests.control_plane.fake_objects import FakeObjects
from tests.control_plane.usage.archive.conftest import DAYS, MONTH, after


@pytest.fixture
async def archived(archivist: Archivist, closed: list[UsageEvent]) -> list[UsageEvent]:
    """The month, gone from the database."""
    assert await archivist.run(1, today=after(1)) == len(DAYS)
    return closed


async def test_a_dropped_month_adds_up_again(
    database: asyncpg.Connection, archived: list[UsageEvent], fake: FakeObjects, customer_id: UUID
) -> None:
    audit = await audit_month(database, fake, MONTH)
    assert audit.findings == []
    assert (audit.days_from_files, audit.days_from_database) == (len(DAYS), 0)
    assert audit.totals["requests"] == len(archived)
    assert audit.totals["billable_requests"] == sum(event.is_billable for event in archived)


async def test_a_month_that_is_still_here_is_audited_too(
    database: asyncpg.Connection, closed: list[UsageEvent], fake: FakeObjects
) -> None:
    audit = await audit_month(database, fake, MONTH)
    assert (audit.findings, audit.days_from_database) == ([], len(DAYS))
    await database.execute("DELETE FROM inference_logs WHERE status = 'success' AND timestamp < $1::date + 1", DAYS[0])
    assert "rows" in " ".join((await audit_month(database, fake, MONTH)).findings)


def without_a_row(data: bytes) -> bytes:
    """The file with one billable row less: what a thief of evidence would leave, valid in every other way."""
    table = pq.read_table(io.BytesIO(data))
    kept = [n for n, is_billable in enumerate(table["is_billable"].to_pylist()) if is_billable][1:]
    out = io.BytesIO()
    pq.write_table(table.take(kept), out)
    return out.getvalue()


def tamper(kept: dict[str, bytes], change: str) -> None:
    """What somebody with the store's key could do."""
    key, manifest = day_key(DAYS[1]), manifest_key(MONTH)
    match change:
        case "removed":
            del kept[key]
        case "truncated":
            kept[key] = kept[key][:-20]
        case "row":
            kept[key] = without_a_row(kept[key])
        case "column":
            out = io.BytesIO()
            pq.write_table(pq.read_table(io.BytesIO(kept[key])).drop(["status"]), out)
            kept[key] = out.getvalue()
        case "no manifest":
            del kept[manifest]
        case "garbage manifest":
            kept[manifest] = b"{"
        case "manifest" | "both":
            document = json.loads(kept[manifest])
            document["days"][1]["totals"]["requests"] -= 1
            if change == "both":
                kept[key] = without_a_row(kept[key])
                document["days"][1]["sha256"] = hashlib.sha256(kept[key]).hexdigest()
            kept[manifest] = json.dumps(document).encode()


TAMPERED = {
    "removed": ["rows.parquet: missing"],
    "truncated": ["is not the file that was exported"],
    "row": ["is not the file that was exported", "billable_requests"],
    "column": ["its columns are not those of the log"],
    "no manifest": ["manifest.json: missing"],
    "garbage manifest": ["manifest.json: cannot be read"],
    "manifest": ["is not the manifest that was written"],
    "both": ["is not the manifest that was written", "is not the file that was exported", "the manifest does not describe"],
}


async def test_whatever_was_changed_in_the_store_is_found(
    database: asyncpg.Connection, archived: list[UsageEvent], fake: FakeObjects
) -> None:
    good = dict(fake.kept)
    for change, expected in TAMPERED.items():
        fake.kept = dict(good)
        tamper(fake.kept, change)
        findings = "\n".join((await audit_month(database, fake, MONTH)).findings)
        assert [words for words in expected if words not in findings] == [], change


async def test_whatever_was_changed_in_the_database_is_found(
    database: asyncpg.Connection, archived: list[UsageEvent], fake: FakeObjects
) -> None:
    await database.execute("UPDATE usage_days SET requests = requests + 1 WHERE day = $1", DAYS[1])
    await database.execute("UPDATE usage_months SET refused = refused - 1")
    await database.execute("ALTER TABLE rated_usage DISABLE TRIGGER USER")
    await database.execute("UPDATE rated_usage SET quantity = quantity + 1 WHERE day = $1", DAYS[1])
    findings = (await audit_month(database, fake, MONTH)).findings
    assert {finding.split()[0] for finding in findings} == {"usage_days", "usage_months", "invoices:"}


async def test_the_command_says_it_and_ends_with_its_verdict(
    database_url: str, database: asyncpg.Connection, closed: list[UsageEvent], objects_url: str
) -> None:
    commands = create_commands(lambda: database_url, lambda: objects_url)
    month = f"{MONTH:%Y-%m}"
    fine = await asyncio.to_thread(CliRunner().invoke, commands, ["audit", "--month", month])
    assert (fine.exit_code, "everything agrees" in fine.output) == (0, True)
    await database.execute("UPDATE usage_months SET requests = requests + 1")
    wrong = await asyncio.to_thread(CliRunner().invoke, commands, ["audit", "--month", month])
    assert (wrong.exit_code, "2 findings" in wrong.output) == (1, True)
    gone = create_commands(lambda: database_url, lambda: "http://a:b@127.0.0.1:1/b")
    await database.execute("INSERT INTO usage_archive (day) VALUES ($1)", DAYS[0])
    await database.execute(
        """UPDATE usage_archive SET object_key = 'x', sha256 = 'x', size_bytes = 1, requests = 1, billable_requests = 1,
           exported_at = now()"""
    )
    away = await asyncio.to_thread(CliRunner().invoke, gone, ["audit", "--month", month])
    assert away.exit_code == 1
    none = await asyncio.to_thread(CliRunner().invoke, create_commands(lambda: database_url), ["audit", "--month", month])
    assert (none.exit_code, "VLA_OBJECT_STORE_URL" in none.output) == (2, True)


ROW = st.fixed_dictionaries(
    {
        "customer_id": st.sampled_from([UUID(int=n) for n in range(3)]),
        "status": st.sampled_from(["success", "refused", "invalid", "timeout", "error", "checked"]),
        "compute_ms": st.none() | st.floats(min_value=0, max_value=1e6),
    }
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=st.lists(st.lists(ROW, min_size=1, max_size=20), max_size=4))
def test_a_file_counts_as_its_rows_do(tmp_path: Path, groups: list[list[dict[str, object]]]) -> None:
    path = tmp_path / "x.parquet"
    blank: dict[str, object] = dict.fromkeys(SCHEMA.names) | {
        "request_id": UUID(int=1), "key_id": UUID(int=2), "timestamp": 0, "recorded_at": 0, "payload_hash": b""
    }  # fmt: skip
    with DayWriter(path) as writer:
        for group in groups:
            writer.add([blank | row | {"is_billable": row["status"] == "success", "is_test": False} for row in group])
    rows = [row for group in groups for row in group]
    found = count_again(path)
    assert sum(counts["requests"] for counts in found.values()) == len(rows)
    for customer, counts in found.items():
        own = [row for row in rows if row["customer_id"] == customer]
        assert counts["billable_requests"] == len([row for row in own if row["status"] == "success"])
        assert counts["failed"] == len([row for row in own if row["status"] in {"timeout", "error"}])
        assert counts["compute_us"] == sum(round(float(str(row["compute_ms"] or 0)) * 1000) for row in own)
