"""The export of everything held about a customer: their rows and objects, nobody else's, and no secret."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from control_plane.capture.export import INDEX, export
from control_plane.errors import ApiError
from control_plane.keys.verbs import Stores
from control_plane.usage.archive.parquet import COLUMNS, DayWriter
from control_plane.usage.dead_letters import DeadLetter, Reason, set_aside
from control_plane.usage.event import encode
from tests.control_plane.capture.conftest import House
from tests.control_plane.keys.conftest import a_customer
from tests.control_plane.usage.making import make_event


async def test_it_has_every_row_and_object_of_the_customer_and_no_secret(house: House, tmp_path: Path) -> None:
    other = await a_customer(Stores(engine=house.engine, redis=house.redis, pepper=b"p" * 32))
    house.write(house.sample(0), house.sample(1))
    await house.shipper().step()
    done = await export(house.engine, house.objects, house.customer_id, tmp_path / "out")
    assert {"customer_accounts", "api_keys", "audit_log", "data_consents", "captured_episodes"} <= set(done.rows)
    assert done.objects == 2
    rows = {
        path.name.removesuffix(".jsonl.gz"): [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        for path in (tmp_path / "out").glob("*.gz")
    }
    assert {name: len(found) for name, found in rows.items()} == dict(done.rows)
    assert "digest" not in rows["api_keys"][0]
    assert rows["data_consents"][0]["given_by"] == "Dana"
    everything = json.dumps(rows)
    assert other.customer.id.hex not in everything.replace("-", "")
    exported = [path.read_bytes() for path in (tmp_path / "out" / "objects").rglob("*.tar")]
    assert len(exported) == 1
    assert json.loads((tmp_path / "out" / INDEX).read_text())["objects"] == 2


def rows_in(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress((folder / f"{name}.jsonl.gz").read_bytes()).splitlines()]


async def test_it_has_what_only_refers_to_the_customer_and_what_has_left_the_database(
    house: House, database_url: str, tmp_path: Path
) -> None:
    mine, other = house.sample(0), uuid4()
    house.write(mine)
    await house.shipper().step()
    episode = (await house.manifests())[0].episode
    await fill(house, episode)
    letters = [
        make_event(customer, instruction=f"late, {name}") for customer, name in ((house.customer_id, "mine"), (other, "no"))
    ]
    connection = await asyncpg.connect(database_url)
    try:
        await set_aside(connection, [DeadLetter(payload=encode(one), reason=Reason.REJECTED, detail="") for one in letters])
    finally:
        await connection.close()
    await archive(house, tmp_path / "day.parquet", other)
    done = await export(house.engine, house.objects, house.customer_id, tmp_path / "out")
    expected = {
        "captured_parts": 1,
        "captured_frames": 1,
        "dataset_members": 1,
        "feedback": 1,
        "webhook_endpoints": 1,
        "webhook_messages": 1,
        "webhook_deliveries": 1,
        "webhook_attempts": 1,
        "mails": 1,
        "mail_attachments": 1,
        "usage_dead_letters": 1,
        "inference_logs_archived": 1,
    }
    assert {name: done.rows.get(name) for name in expected} == expected
    out = tmp_path / "out"
    assert rows_in(out, "feedback")[0]["action"] == [[0.5] * 7]
    assert [row["instruction"] for row in rows_in(out, "usage_dead_letters")] == ["late, mine"]
    assert [row["instruction"] for row in rows_in(out, "inference_logs_archived")] == ["of old, mine"]
    assert "sealed_secret" not in rows_in(out, "webhook_endpoints")[0]
    with pytest.raises(ApiError, match="months of the log are in the object store"):
        await export(house.engine, None, house.customer_id, tmp_path / "without a store")


async def fill(house: House, episode: UUID) -> None:
    """One row in each room that refers to the customer by another row, and one e-mail."""
    say = {"customer": house.customer_id, "episode": episode}
    ids = {name: uuid4() for name in ("dataset", "endpoint", "message", "delivery", "mail")}
    for statement in FILLING:
        await house.execute(statement, **{name: value for name, value in (say | ids).items() if f":{name}" in statement})


FILLING = (
    "INSERT INTO datasets (id, place, asked) VALUES (:dataset, '/somewhere', '{}')",
    "INSERT INTO dataset_members (dataset_id, episode_id, split) VALUES (:dataset, :episode, 'train')",
    "INSERT INTO feedback (id, customer_id, key_id, session_id, outcome, action) "
    "VALUES (gen_random_uuid(), :customer, gen_random_uuid(), 'ep-1', 'correction', '[[0.5,0.5,0.5,0.5,0.5,0.5,0.5]]')",
    "INSERT INTO webhook_endpoints (id, customer_id, url, description, events, sealed_secret) "
    "VALUES (:endpoint, :customer, 'https://acme.example/hook', '', '{}', 'sealed')",
    "INSERT INTO webhook_messages (id, customer_id, dedupe_key, type, payload) "
    "VALUES (:message, :customer, 'd', 'key.created', '{}')",
    "INSERT INTO webhook_deliveries (id, message_id, endpoint_id) VALUES (:delivery, :message, :endpoint)",
    "INSERT INTO webhook_attempts (id, delivery_id, duration_ms) VALUES (gen_random_uuid(), :delivery, 3)",
    "INSERT INTO mails (id, dedupe_key, recipient, subject, text, html) "
    "SELECT :mail, 'm', upper(email), 'Your invoice', 'text', 'html' FROM customer_accounts WHERE id = :customer",
    "INSERT INTO mail_attachments (mail_id, position, filename, media_type, content) "
    "VALUES (:mail, 0, 'i.pdf', 'application/pdf', 'x')",
)


async def archive(house: House, path: Path, other: UUID) -> None:
    """A day of the log that has left the database, with a row of the customer and one of somebody else."""
    at = datetime(2026, 1, 5, tzinfo=UTC)
    with DayWriter(path) as writer:
        writer.add(
            dict.fromkeys(COLUMNS)
            | {"request_id": uuid4(), "timestamp": at, "customer_id": customer, "key_id": uuid4(), "status": "success"}
            | {"is_billable": True, "is_test": False, "payload_hash": b"h", "recorded_at": at, "instruction": f"of old, {name}"}
            for customer, name in ((house.customer_id, "mine"), (other, "no"))
        )
    await house.objects.put_file("usage/v1/month=2026-01/05.parquet", path)
    await house.execute(
        "INSERT INTO usage_archive (day, object_key, sha256, size_bytes, requests, billable_requests, exported_at, "
        "manifest_sha256, dropped_at) VALUES ('2026-01-05', 'usage/v1/month=2026-01/05.parquet', 'h', 1, 2, 2, now(), 'm', now())"
    )


async def test_a_folder_that_is_there_and_a_customer_that_is_not_are_refused(house: House, tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="is there already"):
        await export(house.engine, None, house.customer_id, tmp_path)
    with pytest.raises(ApiError, match="there is no customer"):
        await export(house.engine, None, UUID(int=1), tmp_path / "new")
    assert not (tmp_path / "new").exists()
